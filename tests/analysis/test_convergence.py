from pathlib import Path
from statistics import fmean, stdev

import pytest

from offramp.analysis import curves
from offramp.reports import Group, RunRecord
from offramp.runs.output import Output
from offramp.runs.result import Result

EXITS = 11  # at most; a row has the columns of those that were logged


def run(seed, rows):
    exits = {f"exit {k}": Output({"top1": 50.0}, "top1", "higher") for k in range(1, EXITS + 1)}
    result = Result("net", "joint", "digits", seed, exits)
    return RunRecord(Path(f"run{seed}"), "net", "joint", {}, "digits", seed, {}, result, tuple(rows))


def row(epoch, values, **more):
    exits = {f"val_top1_{k}": v for k, v in enumerate(values, 1)}
    return {"epoch": epoch, **exits, **{f"train_loss_{k}": 1 / v for k, v in enumerate(values, 1)}, **more}


def test_curves_are_means_over_exits_and_seeds():
    first = run(0, [row(1.0, [10, 20, 60], passes=4.0), row(2.0, [20, 40, 90], passes=8.0)])
    second = run(
        1, [row(1.0, [20, 30, 40], passes=4.0), row(2.0, [30, 50, 70], passes=8.0), row(3.0, [1, 1, 1])]
    )
    found = curves(Group("dr-mgf", (first, second)))
    assert found.epochs == (1, 2)
    assert found.passes == (4, 8)
    assert [s.mean for s in found.values["val_top1_mean"]] == [fmean([30, 30]), fmean([50, 50])]
    assert [s.mean for s in found.values["val_top1_last"]] == [50, 80]
    assert [s.std for s in found.values["val_top1_last"]] == [stdev([60, 40]), stdev([90, 70])]
    losses = [fmean(1 / v for v in values) for values in ([10, 20, 60], [20, 30, 40])]
    assert found.values["train_loss_mean"][0].mean == pytest.approx(fmean(losses))
    assert found.to_dict()["val_top1_last"] == {"mean": [50, 80], "std": [stdev([60, 40]), stdev([90, 70])]}


def test_ten_exits_are_in_their_order():
    found = curves(Group("joint", (run(0, [row(1.0, range(1, 12))]),)))
    assert found.values["val_top1_last"][0].mean == 11


def test_without_passes_an_epoch_is_one_and_without_validation_there_are_losses():
    rows = [{"epoch": e, "train_loss_1": 2 / e, "train_loss_2": 1 / e} for e in (1.0, 2.0)]
    found = curves(Group("joint", (run(0, rows),)))
    assert found.passes == found.epochs == (1, 2)
    assert set(found.values) == {"train_loss_mean", "train_loss_last"}
    assert [s.mean for s in found.values["train_loss_mean"]] == [1.5, 0.75]


def test_a_loss_that_was_not_finite_is_no_curve():
    found = curves(Group("joint", (run(0, [row(1.0, [10, 20], train_loss_3=float("nan"))]),)))
    assert set(found.values) == {"val_top1_mean", "val_top1_last"}


def test_no_metrics_no_curves():
    assert curves(Group("joint", (run(0, []),))).values == {}
