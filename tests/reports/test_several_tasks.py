"""Outputs with tasks of their own, side by side: each metric by its name, and better in its own direction."""

from __future__ import annotations

import json

import pytest
from plain_records import plain_record

from offramp.errors import UserError
from offramp.reports import compare, plot, result_table
from offramp.runs.output import Output
from offramp.runs.result import Result
from offramp.tasks.outputs import exit_name


@pytest.fixture
def make(tmp_path):
    def make(name, outputs, *, method="joint", seed=0, lr=0.1, val=None, ensemble=None):
        """A finished run: output -> (metric, better, value); val: column of metrics.csv -> value."""
        folder = tmp_path / name
        folder.mkdir()
        recipe = {"epochs": 2, "lr": lr, "milestones": [1], "test_limit": None}
        run = plain_record({"net": "mine"}, "toy", method=method, seed=seed, recipe=recipe)
        found = {
            name: Output({metric: value}, metric, better, 100, 1000)
            for name, (metric, better, value) in outputs.items()
        }
        result = Result("mine", method, "toy", seed, found, ensemble)
        (folder / "run.json").write_text(json.dumps(run))
        (folder / "result.json").write_text(json.dumps(result.to_json()))
        columns = {"epoch": 1, "seconds": 3.0} | (val or {})
        (folder / "metrics.csv").write_text(
            "\n".join([",".join(columns), ",".join(map(str, columns.values())), ""])
        )
        return folder

    return make


def tasks(top1, error):
    return {"class": ("top1", "higher", top1), "depth": ("abs_err", "lower", error)}


@pytest.fixture
def runs(make):
    joint = [make(f"joint{s}", tasks(50.0 + s, 0.5), seed=s) for s in range(3)]
    other = [make(f"dfs{s}", tasks(55.0 + s, 0.4 + 0.01 * s), method="dfs", seed=s) for s in range(3)]
    return [*joint, *other]


def test_columns_are_named_by_output_and_metric(runs):
    comparison = compare(runs)
    assert comparison.columns == ["class top-1 %", "depth abs err"]
    lines = comparison.table().splitlines()
    assert lines[0].startswith("mine on toy: the metric that stands for each task, mean")
    assert [line.split() for line in lines[3:5]] == [
        ["class", "depth", "all", "tasks"],
        ["method", "top-1", "%", "↑", "abs", "err", "↓", "delta-m", "%", "↓"],
    ]
    rows = [line.split() for line in lines]
    assert ["joint", "51.00", "±", "1.00", "0.5000", "±", "0.0000"] in rows
    (gains,) = [row for row in rows if row[:2] == ["dfs", "+5.00"]]
    assert gains[4:6] == ["+0.0900", "±"]  # an error that is lower by so much
    assert all(len(line) <= 100 for line in lines if not line.startswith("note: "))


def test_delta_m_is_paired_by_seed(runs):
    (difference,) = compare(runs).to_dict()["differences"]
    gains = [50 * (-5 / (50 + s) + (0.4 + 0.01 * s - 0.5) / 0.5) for s in range(3)]
    assert difference["delta_m"]["mean"] == pytest.approx(sum(gains) / 3)
    assert difference["delta_m"]["high"] < 0
    assert difference["outputs"]["depth"]["abs_err"]["mean"] == pytest.approx(-0.09)
    assert [*difference] == ["label", "baseline", "outputs", "delta_m"]
    joint, dfs = compare(runs).to_dict()["groups"]
    assert joint["outputs"]["class"]["top1"]["mean"] == 51.0
    assert joint["delta_m"] is None
    assert dfs["delta_m"]["mean"] == pytest.approx(sum(gains) / 3)


def test_a_result_has_a_row_for_each_metric(make, runs):
    result = compare(runs).groups[0].runs[0].result
    lines = [line.split() for line in result_table(result).splitlines()]
    assert lines[0] == ["output", "metric", "value", "params", "FLOPs"]
    assert lines[2:] == [
        ["class", "top-1", "%", "↑", "50.00", "100", "1.00k"],
        ["depth", "abs", "err", "↓", "0.5000", "100", "1.00k"],
    ]


def test_the_picture_has_a_panel_for_each_task_and_one_for_all(runs, tmp_path):
    text = plot(compare(runs), tmp_path / "picture.svg").read_text()
    for words in ("class", "top-1 % ↑", "abs err ↓", "delta-m % ↓ to joint", "the 95 % interval"):
        assert words in text


def exits(*values):
    return {exit_name(k): ("abs_err", "lower", value) for k, value in enumerate(values, 1)}


def test_exits_of_another_metric_are_lower_is_better(make, tmp_path):
    runs = [
        make(m, exits(*values), method=m, ensemble={"abs_err": 0.2})
        for m, values in (("joint", (0.5, 0.4)), ("separate", (0.45, 0.5)))
    ]
    comparison = compare(runs)
    assert comparison.columns == ["1", "2", "average", "ensemble"]
    text = comparison.table()
    assert text.startswith("mine on toy: abs err by exit")
    assert "a negative difference is a gain: 1, 2, average, ensemble" in text
    assert any("separate is better than joint at exit 1 only" in note for note in comparison.notes)
    plot(comparison, tmp_path / "picture.png")


@pytest.mark.parametrize(
    ("better", "values", "best"), [("lower", (0.5, 0.3, 0.4), 0.2), ("higher", (0.5, 0.3, 0.4), 0.1)]
)
def test_the_rate_is_picked_in_the_direction_of_the_metric(make, better, values, best):
    output = {"depth": ("abs_err", better, 1.0)}
    runs = [
        make(str(lr), output, lr=lr, val={"val_abs_err_depth": value})
        for lr, value in zip((0.1, 0.2, 0.4), values, strict=True)
    ]
    (group,) = compare(runs, pick_lr=True).groups
    assert group.runs[0].recipe["lr"] == best
    search = compare(runs, pick_lr=True).to_dict()["groups"][0]["search"]
    assert [rate["val_abs_err"] for rate in search["tried"]] == list(values)


def test_of_several_tasks_the_rate_of_the_best_delta_m_is_picked(make):
    # against lr 0.1: 10 % less top-1 and half the error; then 20 % more top-1 and twice the error
    values = {0.1: (50.0, 0.4), 0.2: (45.0, 0.2), 0.4: (60.0, 0.8)}
    runs = [
        make(str(lr), tasks(1, 1), lr=lr, val={"val_top1_class": top1, "val_abs_err_depth": error})
        for lr, (top1, error) in values.items()
    ]
    (group,) = compare(runs, pick_lr=True).groups
    assert group.runs[0].recipe["lr"] == 0.2
    assert [rate.value for rate in group.rates] == pytest.approx([0, (10 - 50) / 2, (-20 + 100) / 2])


def test_a_baseline_of_0_has_no_delta_m_and_the_rest_stands(make, tmp_path):
    runs = [make("a", tasks(0.0, 0.5)), make("b", tasks(1.0, 0.4), method="dfs")]
    comparison = compare(runs)
    assert comparison.to_dict()["differences"][0]["delta_m"] is None
    (note,) = [note for note in comparison.notes if "delta-m" in note]
    assert note == "no delta-m: joint has class top-1 % of 0, to which no change is relative"
    assert "+1.00" in comparison.table()
    headers = [line for line in comparison.table().splitlines() if line.startswith("method ")]
    assert [line.split()[1:3] for line in headers] == 2 * [["top-1", "%"]] + [["seeds", "s/epoch"]]
    assert not any("delta-m" in line for line in headers)  # no column without a number
    plot(comparison, tmp_path / "picture.png")


def test_no_common_seed_is_said_of_tasks_too(make):
    comparison = compare([make("a", tasks(1.0, 0.5)), make("b", tasks(1.0, 0.4), method="dfs", seed=1)])
    assert "no common seed" in comparison.table()
    assert comparison.to_dict()["differences"] == []


def test_other_metrics_are_not_compared(make):
    runs = [make("a", exits(0.5, 0.4)), make("b", tasks(50.0, 0.5), method="dfs")]
    with pytest.raises(UserError, match=r"the metrics differs \(exit 1 abs_err \(lower is better\)"):
        compare(runs)


def test_published_accuracies_do_not_stand_under_another_metric(make):
    run = make("a", exits(0.5, 0.4), ensemble={"abs_err": 0.3})
    comparison = compare([run], published="dfs-table2")
    assert comparison.published.rows == {}
    assert "none of its rows is shown" in comparison.table()


def test_a_published_table_of_exits_says_what_the_runs_are_of(make):
    comparison = compare([make("a", tasks(50.0, 0.5))], published="dfs-table2")
    line = (
        "dfs-table2 is of exits that classify, and these runs are of a net with the outputs "
        "class (top-1 %), depth (abs err), so none of its rows is shown"
    )
    assert comparison.published.notes == (line,)
    assert f"note: {line}" in comparison.table()
