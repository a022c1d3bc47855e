"""Three tasks with nine metrics as a user reads them: what the table shows, and what it compares with."""

from __future__ import annotations

import json

import pytest
from plain_records import plain_record

from offramp.errors import UserError
from offramp.reports import compare, plot, result_table
from offramp.runs._task_table import task_table
from offramp.runs.output import Output
from offramp.runs.result import LastEpochs, Result
from offramp.tasks.evaluation import Metrics
from offramp.text_table import folded, four_digits

HIGHER = ("miou", "pixacc", "within_11.25", "within_22.5", "within_30")
NYU = {  # a row of the published table, by our names
    "segmentation": {"miou": 38.30, "pixacc": 63.76},
    "depth": {"abs_err": 0.6754, "rel_err": 0.2780},
    "normals": {
        "mean_angle": 25.01, "median_angle": 19.21,
        "within_11.25": 30.14, "within_22.5": 57.20, "within_30": 69.15,
    },
}  # fmt: skip


def better(metric):
    return "higher" if metric in HIGHER else "lower"


@pytest.fixture
def make(tmp_path):
    def make(
        name, *, method="joint", seed=0, gain=0.0, only=None, net="mtan", epochs=2, last=None, mean_of=(1, 2)
    ):
        """A run whose every metric is better than the published row's by a share."""
        outputs = {}
        for task, metrics in NYU.items():
            if only in (None, task):
                values = {m: v * (1 + (gain if m in HIGHER else -gain)) for m, v in metrics.items()}
                first, directions = next(iter(metrics)), {m: better(m) for m in metrics}
                outputs[task] = Output(values, first, better(first), 1000, 2000, compared=directions)
        folder = tmp_path / name
        folder.mkdir()
        task = {"task": only} if only else {}
        recipe = {"epochs": epochs, "lr": 0.1, "milestones": [1], "test_limit": None}
        record = plain_record({"net": net, **task}, "rooms", method=method, seed=seed, recipe=recipe)
        (folder / "run.json").write_text(json.dumps(record))
        averaged = {t: {m: v * (last or 0) for m, v in o.metrics.items()} for t, o in outputs.items()}
        means = None if last is None else LastEpochs(mean_of, Metrics(averaged))
        result = Result(net, method, "rooms", seed, outputs, last_epochs=means)
        (folder / "result.json").write_text(json.dumps(result.to_json()))
        rows = [f"{epoch},{epoch},{3.0}" for epoch in range(1, epochs + 1)]
        (folder / "metrics.csv").write_text("\n".join(["epoch,passes,seconds", *rows, ""]))
        return folder

    return make


def lines(comparison):
    return [line.split() for line in comparison.table().splitlines()]


@pytest.mark.parametrize("metrics", ["primary", "compared", "all"])
def test_no_table_is_wider_than_a_page(make, metrics):
    runs = [make(f"{m}{s}", method=m, seed=s, gain=0.01 * s) for m in ("joint", "pcgrad") for s in range(3)]
    comparison = compare(runs, metrics=metrics, published="dr-mgf-table6")
    text = comparison.table()
    assert max(len(line) for line in text.splitlines() if not line.startswith("note: ")) <= 100
    assert ("<11.25 % ↑" in text) == (metrics != "primary")
    assert "abs err ↓" in text


def test_a_published_table_stands_under_the_metrics_of_its_tasks(make):
    comparison = compare([make("a")], published="dr-mgf-table6", metrics="compared")
    assert ["DR-MGF", "(published)", "43.09", "67.95", "0.5073", "0.2030"] in lines(comparison)
    (normals,) = [line for line in lines(comparison) if line[:3] == ["DR-MGF", "(published)", "24.49"]]
    assert normals[-1] == "-8.39"
    assert ["joint", "38.30", "63.76", "0.6754", "0.2780"] in lines(comparison)
    assert "relative to Independent (published), over 9 metrics" in comparison.table()
    document = comparison.to_dict()["published"]
    assert document["rows"][0]["label"] == "Independent (published)"
    assert document["rows"][-1]["outputs"]["normals"]["within_30"] == 70.04
    assert document["rows"][-1]["delta_m"] == -8.39
    json.dumps(comparison.to_dict(), allow_nan=False)


def test_a_mean_of_one_epoch_is_told_in_the_singular(make):
    comparison = compare([make("a", last=1.0, mean_of=(2,))])
    assert "task, mean of the last epoch, mean" in comparison.table()
    header = task_table(comparison.result).splitlines()[0]
    assert header.split("  ")[-3:] == ["last epoch", "params", "FLOPs"]


def test_the_mean_of_the_last_epochs_stands_before_the_final_one(make):
    runs = [make("a", last=1.0), make("b", method="pcgrad", last=0.5), make("c", method="mgda")]
    comparison = compare(runs[:2])
    text = comparison.table()
    assert text.index("task, mean of the last 2 epochs, mean") < text.index("task, final epoch, mean")
    assert "gain over joint (mean of the last 2 epochs)" in text
    assert ["pcgrad", "19.15", "0.3377", "12.51", "5.56"] in lines(comparison)  # (5 - 4) / 9 of a half
    assert ["pcgrad", "38.30", "0.6754", "25.01", "0.00"] in lines(comparison)
    group, difference = comparison.to_dict()["groups"][1], comparison.to_dict()["differences"][0]
    assert group["last_epochs"]["epochs"] == 2
    assert group["last_epochs"]["delta_m"]["mean"] == pytest.approx(50 / 9)
    assert (group["delta_m"]["mean"], difference["delta_m"]["mean"]) == (0, 0)
    assert difference["last_epochs"]["outputs"]["depth"]["abs_err"]["mean"] == pytest.approx(-0.3377)
    assert "last 2 epochs" not in compare(runs).table()  # one of them has no such mean
    table = [line.split() for line in result_table(comparison.result).splitlines()]
    assert table[0] == ["output", "metric", "value", "mean", "of", "last", "2", "params", "FLOPs"]
    assert ["depth", "abs", "err", "↓", "0.6754", "0.6754", "1.00k", "2.00k"] in table


def test_networks_of_one_task_each_are_one_baseline(make, tmp_path):
    single = [make(f"{task}{s}", seed=s, only=task, net="segnet", last=1.0) for task in NYU for s in (1, 0)]
    runs = [make(f"mtan{s}", seed=s, gain=0.1, method="pcgrad", last=1.0) for s in (0, 1)]
    comparison = compare(runs, baseline=single)
    assert [(group.label, group.seeds) for group in comparison.groups] == [
        ("single-task segnet", [0, 1]),
        ("pcgrad", [0, 1]),
    ]
    document = comparison.to_dict()
    assert document["groups"][1]["delta_m"]["mean"] == pytest.approx(-10)
    assert document["groups"][1]["last_epochs"]["delta_m"]["mean"] == pytest.approx(-10)
    assert document["groups"][0]["joint_epochs"] == 6  # three networks, two epochs each
    assert document["groups"][0]["seconds"]["mean"] == pytest.approx(18)
    assert {run["folder"] for run in document["runs"]} == {str(f) for f in (*single, *runs)}
    assert "3 (F + B)" in comparison.table()
    plot(comparison, tmp_path / "picture.png")


def test_a_baseline_that_lacks_a_task_or_has_it_twice_is_named(make):
    runs = [make("mtan")]
    depth, normals, twin = (
        make(n, only=t, net="segnet") for n, t in (("d", "depth"), ("n", "normals"), ("e", "depth"))
    )
    with pytest.raises(
        UserError, match="no 'segmentation' of seed 0; give a network for each of segmentation"
    ):
        compare(runs, baseline=[depth, normals])
    with pytest.raises(UserError, match=r"has 'depth' of seed 0 twice, in .*d and in .*e; give one"):
        compare(runs, baseline=[depth, normals, twin])
    with pytest.raises(UserError, match=r"number of outputs differs \(3 and 1\).* as `baseline=\.\.\.`"):
        compare([*runs, depth])


def test_a_baseline_by_its_label_or_by_its_folder(make):
    runs = [make("a"), make("b", method="pcgrad", gain=0.1), make("c", method="dr-mgf", gain=0.2)]
    for baseline in ("pcgrad", [runs[1]], runs[1]):
        comparison = compare(runs, baseline=baseline)
        assert [group.label for group in comparison.groups] == ["pcgrad", "joint", "dr-mgf"]
        assert any(
            note.startswith("delta-m is relative to pcgrad; that of papers") for note in comparison.notes
        )
    assert [g.label for g in compare(runs[:1], baseline=runs[2]).groups] == ["dr-mgf", "joint"]
    with pytest.raises(UserError, match=r"no baseline 'pcgrd'.*did you mean 'pcgrad'.*give one of 'joint'"):
        compare(runs, baseline="pcgrd")
    with pytest.raises(UserError, match="of several groups, joint, pcgrad; give the runs of one method"):
        compare(runs, baseline=runs[:2])
    with pytest.raises(UserError, match="no metrics 'everything'; there are: primary, compared, all"):
        compare(runs, metrics="everything")


def test_separate_networks_are_the_baseline_of_papers(make):
    comparison = compare([make("a", gain=0.1), make("b", method="separate")], baseline="separate")
    assert not any("that of papers" in note for note in comparison.notes)
    assert comparison.to_dict()["groups"][1]["delta_m"]["mean"] == pytest.approx(-10)


def test_nets_with_the_same_tasks_are_compared_and_named(make):
    comparison = compare([make("a"), make("b", net="split", gain=0.1)])
    assert [group.label for group in comparison.groups] == ["joint on mtan", "joint on split"]
    assert comparison.title == "mtan, split on rooms"


def test_a_wide_table_is_folded_with_its_first_column_and_groups_stay_together():
    header = ["name", "a\nx", "b\nx", "b\ny", "c\nx"]
    rows = [["one", *"1234"], ["two", "5", "", "", "8"]]
    assert folded(header, rows, width=12).splitlines() == [
        "      a", "name  x", "----  -", "one   1", "two   5", "",
        "      b  b", "name  x  y", "----  -  -", "one   2  3", "",
        "      c", "name  x", "----  -", "one   4", "two   8",
    ]  # fmt: skip
    assert folded(header, rows, width=100).count("name") == 1


@pytest.mark.parametrize(
    ("value", "decimals"), [(0.6754, 4), (25.01, 2), (0.05, 5), (1.5, 3), (0.0, 2), (1234.5, 2), (1e-9, 6)]
)
def test_four_digits(value, decimals):
    assert four_digits(value) == decimals
