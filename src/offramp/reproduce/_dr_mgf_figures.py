"""The figures of DR-MGF (Sun et al., arXiv 2305.19844) that are drawn from trained networks.

Most are drawn from runs of its tables. The paper names neither networks nor settings for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import fmean
from typing import Any

from offramp.papers.catalogue import SIMILARITIES
from offramp.reproduce import _dr_mgf
from offramp.reproduce._figures import budget_report, diagnosis_report
from offramp.reproduce.experiment import Experiment, Report, Row
from offramp.text_table import aligned

__all__ = ["EXPERIMENTS", "beside_similarity"]

_TABLES = {each.name: each for each in _dr_mgf.EXPERIMENTS}
VGG = "dr-mgf-table1-cifar100"
SDN = "sdn-ramp"

NOT_NAMED = "the network is not named for this figure; here it is VGG-SDN"
LAST_WEIGHTS = (
    "at which weights, in which mode and with which trial steps conflict and gain were measured is not told; "
    "here at the last ones, on batches of the training, by steps of the last learning rate, at least 0.001"
)
SHARPENED = (
    "the published picture shows the softmax of -100 times the change in each row, which is "
    "as_published in diagnosis.json; here the change itself is drawn"
)
ACCUMULATED = "gradient norms are added up at the last weights, in the paper during the whole training"
ON_TRAINING = (
    "the published curves are of training images in evaluation mode; here they are of the images held out, "
    "where there are some, and else the training loss"
)
PASSES = "an epoch of Meta-GF and DR-MGF takes K + 1 of joint training: the second axis counts passes"


def _figure(
    number: str,
    table: str,
    rows: tuple[Row, ...],
    report: Callable[..., Report],
    *differs: str,
    runs_nets: bool = True,
) -> Experiment:
    """A figure on the data and by the recipe of a table, whose runs it shares."""
    of_table = _TABLES[table]
    return replace(
        of_table,
        name=f"dr-mgf-fig{number}",
        source=f"{of_table.source.rpartition(',')[0]}, Fig {number.partition('-')[0]}",
        kind="figure",
        rows=rows,
        runs=table,
        runs_nets=runs_nets,
        report=report,
        seeds=(0,),
        baseline="",
        differs=(*differs, *of_table.differs),
    )


def _rows(table: str, *labels: str) -> tuple[Row, ...]:
    """Some rows of a table, by default all."""
    rows = {row.label: row for row in _TABLES[table].rows}
    return tuple(rows[label] for label in labels or rows)


def beside_similarity(document: dict[str, Any]) -> Report:
    """The cosines of exits' routes, means over the runs, beside those that are printed."""
    routes = [run["routes"] for run in document["runs"]]
    found = [(each["similarity_without_first"] or each["similarity"])["raw"] for each in routes]
    lines = {
        f"exits {a} and {b}": (fmean(raw[a - 1][b - 1] for raw in found), published)
        for (a, b), published in SIMILARITIES.cosines.items()
    }
    rows = [[pair, f"{ours:.3f}", f"{published:.2f}"] for pair, (ours, published) in lines.items()]
    text = aligned(["cosine of learned importance", "ours", "published"], rows)
    return Report(
        {
            "beside": {pair: {"ours": ours, "published": value} for pair, (ours, value) in lines.items()},
            "published_source": SIMILARITIES.source,
        },
        f"{text}\n{SIMILARITIES.source}: {SIMILARITIES.remark}",
    )


_WIDE = replace(
    _figure("4-wideresnet", VGG, _rows(VGG, SDN), diagnosis_report("conflict"), LAST_WEIGHTS),
    net="wideresnet_sdn",
    recipe="sdn_wideresnet",
    runs="",
)

_CONFLICTS = (
    ("4-msdnet", "dr-mgf-table3-cifar100", "joint"),
    ("4-resnet", "dr-mgf-table2-cifar100", SDN),
    ("4-vgg", VGG, SDN),
)
_BUDGETS = {"vgg": 1, "resnet": 2, "msdnet": 3}
_FUSED = (
    Row(SDN, remark="the published curve SGD"),
    Row("meta-gf", "meta-gf-vgg"),
    Row("dr-avgf"),
    *_rows(VGG, "dr-mgf"),
)
_FUSED_TASKS = (
    *_rows("dr-mgf-table6", "MTAN"),
    Row("Meta-GF", "meta-gf-nyu"),
    Row(
        "DR-avgF",
        "dr-mgf-nyu",
        settings={"learn": "nothing"},
        remark="its settings are those of DR-MGF, whose fusion learns nothing here",
    ),
    *_rows("dr-mgf-table6", "DR-MGF"),
)

EXPERIMENTS = (
    *(
        _figure(number, table, _rows(table, label), diagnosis_report("conflict"), LAST_WEIGHTS)
        for number, table, label in _CONFLICTS
    ),
    _WIDE,
    _figure(
        "5-cifar100", VGG, _rows(VGG, SDN), diagnosis_report("importance", split="test"),
        NOT_NAMED, ACCUMULATED, SHARPENED,
    ),
    _figure(
        "5-nyuv2", "dr-mgf-table6", _rows("dr-mgf-table6", "MTAN"),
        diagnosis_report("importance", split="test"), ACCUMULATED, SHARPENED,
    ),
    *(
        _figure(
            f"7-{net}-{data}", (table := f"dr-mgf-table{number}-{data}"), _rows(table), budget_report,
            "which of the networks and sets the figure shows is not known; no number of it is",
        )
        for net, number in _BUDGETS.items()
        for data in ("cifar100", "cifar10")
    ),
    _figure(
        "10", VGG, _rows(VGG), diagnosis_report("convergence"), NOT_NAMED, ON_TRAINING, PASSES,
        runs_nets=False,
    ),
    _figure(
        "11-cifar100", VGG, _FUSED, diagnosis_report("convergence"), ON_TRAINING, PASSES,
        runs_nets=False,
    ),
    _figure(
        "11-nyuv2", "dr-mgf-table6", _FUSED_TASKS, diagnosis_report("convergence"),
        "the published curves are losses on the test images; here they are those of the training", PASSES,
        runs_nets=False,
    ),
    _figure(
        "12-cifar100", VGG, _rows(VGG, "dr-mgf"), diagnosis_report("routes", split="test"),
        NOT_NAMED, SHARPENED,
    ),
    _figure(
        "12-nyuv2", "dr-mgf-table6", _rows("dr-mgf-table6", "DR-MGF"),
        diagnosis_report("routes", split="test"), SHARPENED,
    ),
    _figure(
        "13", VGG, _rows(VGG, "dr-mgf"), diagnosis_report("routes", split="test", beside=beside_similarity),
        "the authors' script for this figure reads a ResNet-56 of CIFAR-10, the paper says VGG-SDN",
    ),
)  # fmt: skip
