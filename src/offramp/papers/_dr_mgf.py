"""DR-MGF (Sun et al., arXiv 2305.19844): its tables of multi-exit networks, as published.

Read the comparisons with care: there is one run per number; the settings of CAGrad, PCGrad and Nash-MTL are
printed nowhere (the package of Meta-GF, by the same authors, has the first two as ``cagrad-meta-gf`` and
``pcgrad-meta-gf``); and the averages hide that DR-MGF is not the best at every exit.
Table 6, of several tasks, is in :mod:`offramp.papers._dr_mgf_tasks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from offramp.papers._dr_mgf_costs import COUNTS, Count
from offramp.papers.published import Table

__all__ = [
    "SOURCE",
    "TABLE_1_CIFAR10",
    "TABLE_1_CIFAR100",
    "TABLE_2_CIFAR10",
    "TABLE_2_CIFAR100",
    "TABLE_3_CIFAR10",
    "TABLE_3_CIFAR100",
    "TABLE_4",
    "TABLE_5",
]

SOURCE = "Sun et al., DR-MGF, arXiv 2305.19844v1"

_Rows = Mapping[str, tuple[float, ...]]


def _table(
    number: int,
    net: str,
    data: str,
    top1: _Rows,
    printed: Count,
    cost_remark: str = "",
    inferred: Mapping[str, str] = MappingProxyType({}),
) -> Table:
    return Table(
        source=f"{SOURCE}, Table {number}",
        net=net,
        data=data,
        columns=(*(str(k + 1) for k in range(len(printed.params))), "average"),
        top1=MappingProxyType(dict(top1)),
        params=printed.params,
        params_unit=1e6,
        flops=printed.flops,
        flops_unit=1e6,
        cost_remark=cost_remark,
        inferred=inferred,
    )


_VGG = COUNTS["vgg_sdn", 10]._replace(flops=(39.76, 96.52, 153.25, 191.08, 247.81, 285.68, 314.45))
_MISPRINT = "exit 6 has 285.60 M operations, 285.68 is a misprint"
_TEN = "the printed costs are those with 10 classes"
_SDN = MappingProxyType(
    {"sdn-ramp": "printed as SDN; the authors' earlier code trains these networks with the ramp"}
)

# Some averages are not those of their rows: here that of pcgrad (66.76 would be), on CIFAR-10 those of
# cagrad (89.59), pcgrad (88.54) and nash-mtl (89.02), in Table 2 that of nash-mtl on CIFAR-100
# (61.04). Which numbers are wrong cannot be told.
TABLE_1_CIFAR100 = _table(
    1,
    "vgg_sdn",
    "CIFAR-100",
    {
        "sdn-ramp": (44.42, 61.08, 69.80, 72.23, 72.48, 72.63, 71.76, 66.34),
        "ge": (44.46, 61.00, 69.54, 72.11, 72.32, 72.38, 71.58, 66.19),
        "cagrad": (53.08, 61.39, 70.90, 71.55, 72.41, 72.45, 71.43, 67.60),
        "pcgrad": (44.59, 63.02, 70.04, 73.14, 72.59, 72.54, 71.39, 66.61),
        "nash-mtl": (40.17, 57.46, 68.14, 69.92, 71.58, 71.42, 71.37, 64.29),
        "dr-mgf": (51.25, 64.88, 72.11, 73.89, 74.37, 74.41, 73.87, 69.25),
    },
    _VGG,
    f"{_TEN}; {_MISPRINT}",
    inferred=_SDN,
)

TABLE_1_CIFAR10 = _table(
    1,
    "vgg_sdn",
    "CIFAR-10",
    {
        "sdn-ramp": (69.03, 84.72, 92.15, 92.50, 92.46, 93.59, 92.61, 88.15),
        "ge": (68.97, 84.52, 92.02, 92.62, 92.78, 92.83, 92.85, 88.08),
        "cagrad": (76.27, 86.60, 92.40, 92.79, 92.99, 93.07, 93.00, 89.54),
        "pcgrad": (67.41, 88.69, 91.80, 92.74, 92.75, 92.70, 93.69, 88.05),
        "nash-mtl": (71.94, 86.31, 92.45, 92.89, 93.16, 93.18, 93.22, 89.00),
        "dr-mgf": (74.67, 88.64, 93.65, 94.06, 94.20, 94.16, 94.15, 90.50),
    },
    _VGG,
    _MISPRINT,
    inferred=_SDN,
)

TABLE_2_CIFAR100 = _table(
    2,
    "resnet_sdn",
    "CIFAR-100",
    {
        "sdn-ramp": (40.20, 45.45, 59.08, 62.40, 67.88, 70.06, 70.02, 59.29),
        "ge": (42.10, 46.91, 59.85, 63.81, 68.52, 69.88, 69.63, 60.10),
        "cagrad": (48.73, 47.05, 57.77, 62.62, 67.16, 69.26, 68.40, 60.14),
        "pcgrad": (40.10, 45.67, 60.04, 63.47, 67.78, 69.70, 70.07, 59.54),
        "nash-mtl": (46.92, 48.74, 59.68, 63.39, 68.08, 70.18, 70.28, 61.01),
        "dr-mgf": (48.43, 51.26, 61.46, 64.02, 68.27, 70.02, 69.42, 61.84),
    },
    COUNTS["resnet_sdn", 10],
    _TEN,
    inferred=_SDN,
)

TABLE_2_CIFAR10 = _table(
    2,
    "resnet_sdn",
    "CIFAR-10",
    {
        "sdn-ramp": (71.64, 78.10, 87.32, 89.85, 91.45, 92.26, 92.33, 86.13),
        "ge": (71.37, 77.11, 87.21, 89.63, 91.51, 92.33, 92.21, 85.91),
        "cagrad": (80.94, 80.24, 86.31, 88.62, 90.73, 91.31, 91.19, 87.04),
        "pcgrad": (69.74, 77.24, 87.75, 89.79, 91.53, 92.17, 92.09, 85.76),
        "nash-mtl": (77.26, 80.74, 87.72, 89.54, 91.30, 91.98, 91.83, 87.19),
        "dr-mgf": (76.96, 80.21, 88.21, 90.26, 91.49, 92.05, 92.17, 87.33),
    },
    COUNTS["resnet_sdn", 10],
    inferred=_SDN,
)

TABLE_3_CIFAR100 = _table(
    3,
    "msdnet_cifar",
    "CIFAR-100",
    {
        "joint": (66.41, 70.48, 73.25, 74.02, 74.87, 75.33, 75.42, 72.83),
        "ge": (67.74, 71.87, 73.81, 75.13, 75.86, 76.23, 75.98, 73.80),
        "cagrad": (68.78, 72.55, 74.23, 74.97, 75.35, 75.82, 76.08, 73.96),
        "pcgrad": (67.06, 71.37, 74.86, 75.78, 76.25, 76.95, 76.71, 74.14),
        "nash-mtl": (64.14, 69.23, 72.64, 74.89, 75.32, 75.88, 76.75, 72.69),
        "dr-mgf": (67.82, 72.45, 74.77, 75.77, 76.56, 76.90, 77.01, 74.47),
    },
    COUNTS["msdnet_cifar", 100],
)

# The first row of the table lacks a value (nan here); the averages tell that it is this one, about 90.72.
TABLE_3_CIFAR10 = _table(
    3,
    "msdnet_cifar",
    "CIFAR-10",
    {
        "joint": (91.13, 92.91, 93.98, 94.46, 94.68, 94.78, 94.64, 93.80),
        "ge": (92.02, 93.53, 94.14, 94.49, 94.73, 94.89, 94.96, 94.11),
        "cagrad": (92.19, 93.49, 94.47, 94.45, 94.48, 94.53, 94.48, 94.01),
        "pcgrad": (91.66, 93.59, 94.32, 94.60, 94.81, 94.83, 94.82, 94.09),
        "nash-mtl": (float("nan"), 92.43, 93.29, 93.76, 93.69, 93.93, 94.02, 93.12),
        "dr-mgf": (92.27, 93.97, 94.57, 94.83, 94.90, 94.99, 94.99, 94.36),
    },
    COUNTS["msdnet_cifar", 100],
    "the printed costs are those with 100 classes",
)

# To the last digit, dr-mgf has here what Gong et al. (ECCV 2024, Table 3) quote for Meta-GF.
TABLE_4 = _table(
    4,
    "msdnet_imagenet",
    "ImageNet",
    {
        "joint": (58.48, 65.96, 68.66, 69.48, 71.03, 66.72),
        "ge": (57.75, 65.54, 69.24, 70.27, 71.89, 66.94),
        "pcgrad": (57.62, 64.87, 68.93, 71.05, 72.45, 66.98),
        "cagrad": (58.37, 64.21, 66.88, 68.22, 69.42, 65.42),
        "dr-mgf": (57.43, 64.82, 69.08, 71.67, 73.27, 67.25),
    },
    COUNTS["msdnet_imagenet", 1000],
)

# With distillation DR-MGF has a lower average (74.13) than without (Table 3: 74.47).
TABLE_5 = _table(
    5,
    "msdnet_cifar",
    "CIFAR-100",
    {
        "joint": (66.41, 70.48, 73.25, 74.02, 74.87, 75.33, 75.42, 72.83),
        "kd-msdnet": (66.08, 71.24, 72.28, 74.50, 74.83, 75.77, 76.14, 72.97),
        "kd-msdnet+dr-mgf": (68.01, 72.34, 74.48, 75.58, 76.14, 76.15, 76.26, 74.13),
    },
    COUNTS["msdnet_cifar", 100],
    inferred=MappingProxyType(
        dict.fromkeys(
            ("kd-msdnet", "kd-msdnet+dr-mgf"),
            "printed as KD; the paper does not say which, MSDNet's later code has this one",
        )
    ),
)
