"""The tables of DR-MGF (Sun et al., arXiv 2305.19844) as trainings.

The published code covers NYUv2 alone: what the other tables were trained with follows from the paper's text,
from Meta-GF's code by the same authors, and from what the recipes say of both.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from offramp.papers.catalogue import TABLES
from offramp.papers.published import Table
from offramp.reproduce._rows import CAGRAD, DR_MGF, DR_MGF_MSDNET, NASH_MTL, PCGRAD, UNION
from offramp.reproduce._tables import table_report
from offramp.reproduce.experiment import Experiment, Row

__all__ = ["EXPERIMENTS"]

NOT_PUBLISHED = (
    "the authors' code for networks with exits is not public; their published code, for NYUv2, gives what "
    "the text leaves open"
)
HELD_OUT = (
    "the authors' code augments the held-out images too and picks its checkpoint on them, by the last exit; "
    "here they are left as they are, and the last epoch counts"
)
RAMPED = "with the ramp of the losses that the baseline has, as in the authors' code of GE for these networks"
SDN = (
    Row("sdn-ramp"),
    Row("ge", "ge+sdn-ramp", remark=RAMPED),
    CAGRAD,
    PCGRAD,
    NASH_MTL,
    DR_MGF,
)
MSDNET = (
    Row("joint"),
    Row("ge"),
    CAGRAD,
    PCGRAD,
    NASH_MTL,
    DR_MGF_MSDNET,
)
IMAGENET = (Row("joint"), Row("ge"), PCGRAD, CAGRAD, DR_MGF)
DISTILLED = (
    Row("joint"),
    Row("kd-msdnet"),
    replace(DR_MGF_MSDNET, label="kd-msdnet+dr-mgf", method="kd-msdnet+dr-mgf-published"),
)


def _experiment(name: str, recipe: str, rows: tuple[Row, ...], *differs: str, **settings: Any) -> Experiment:
    table = TABLES[name]
    assert isinstance(table, Table)
    return Experiment(
        name=name,
        source=table.source,
        data=table.data,
        net=table.net,
        recipe=recipe,
        rows=rows,
        report=table_report,
        settings=settings,
        baseline=rows[0].label,
        differs=(*differs, NOT_PUBLISHED, HELD_OUT),
    )


MTAN = "segnet_mtan"
ALIKE = "the published rows above DR-MGF are quoted from papers that weigh the three losses alike, as here"
ROTOGRAD = Row(
    "Rotograd",
    "rotograd",
    net="segnet_split",
    remark="trained on SegNet with three heads: SegNet-MTAN has no feature that all heads read",
)
TASKS = Experiment(
    name="dr-mgf-table6",
    source=TABLES["dr-mgf-table6"].source,
    data="NYUv2",
    net=MTAN,
    recipe="nyuv2",
    rows=(
        Row("Independent", "separate", net="segnet_split"),
        Row("Cross-Stitch", "joint", net="segnet_cross_stitch"),
        Row("MTAN", "joint"),
        Row("MGDA", "mgda", settings=UNION),
        Row("PCGrad", "pcgrad", settings=UNION),
        Row("GradDrop", "graddrop"),
        Row("CAGrad", "cagrad", settings=UNION),
        ROTOGRAD,
        Row("Nash-MTL", "nash-mtl", settings=UNION, remark=NASH_MTL.remark),
        Row("DR-MGF", "dr-mgf-nyu", remark="its stages weigh the loss of the normals ten times"),
    ),
    report=table_report,
    seeds=(0, 1, 2),
    baseline="Independent",
    differs=(ALIKE,),
)

EXPERIMENTS = (
    _experiment("dr-mgf-table1-cifar100", "sdn_vgg", SDN),
    _experiment("dr-mgf-table1-cifar10", "sdn_vgg", SDN),
    _experiment("dr-mgf-table2-cifar100", "sdn_resnet", SDN),
    _experiment("dr-mgf-table2-cifar10", "sdn_resnet", SDN),
    _experiment("dr-mgf-table3-cifar100", "msdnet", MSDNET),
    # the recipe's augmentation but for its normalisation, which is CIFAR-100's
    _experiment("dr-mgf-table3-cifar10", "msdnet", MSDNET, augment="crop-flip"),
    _experiment(
        "dr-mgf-table4",
        "dr_mgf_imagenet",
        IMAGENET,
        "the published row dr-mgf is, to the last digit, what Gong et al. (ECCV 2024) quote for Meta-GF",
    ),
    _experiment("dr-mgf-table5", "msdnet", DISTILLED),
    TASKS,
)
