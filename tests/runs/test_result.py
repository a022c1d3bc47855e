"""The result of a run: its file, and what follows from its metrics."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest
import torch
from plain_records import plain_record

from offramp.counting.costs import Cost, ExitCost
from offramp.errors import UserError
from offramp.papers._dr_mgf_tasks import TABLE_6
from offramp.reports import read_run
from offramp.runs._result_keys import metrics_from_json, metrics_to_json, outputs_from_json
from offramp.runs._result_shape import check_result
from offramp.runs.output import Output
from offramp.runs.result import LastEpochs, Result
from offramp.tasks import Boxes, Classification, Depth, Normals, Segmentation, Task
from offramp.tasks.evaluation import Metrics

RECORD = {"net": {"net": "tiny"}, "method": "joint", "data": {"name": "toy"}, "seed": 3}
COST = Cost("macs", 7, (ExitCost(3, 10), ExitCost(4, None), ExitCost(5, 30)))


@dataclass(frozen=True)
class Distance(Task):
    """A task of a user's own, whose metric is better where it is lower."""

    primary = "abs_err"
    better = "lower"
    target: str = "distance"

    def loss(self, output, target):
        return (output - target).abs(), torch.ones(len(output))

    def counts(self, output, target):
        return torch.stack([(output - target).abs().sum().double(), torch.tensor(float(len(output)))])

    def metrics(self, counts):
        return {"abs_err": float(counts[0] / counts[1])}


def of_exits():
    found = Metrics({f"exit {k}": {"top1": 40.0 + k, "top5": 80.0 + k} for k in (1, 2, 3)}, {"top1": 44.5})
    return Result.of({f"exit {k}": Classification() for k in (1, 2, 3)}, found, COST, RECORD)


def of_tasks(top1=50.0, iou=20.0, error=0.5):
    tasks = {"class": Classification(), "box": Boxes(), "distance": Distance()}
    found = Metrics(
        {"class": {"top1": top1, "top5": 90.0}, "box": {"iou": iou}, "distance": {"abs_err": error}}
    )
    return Result.of(tasks, found, COST, RECORD)


def of_maps():
    tasks = [Segmentation(), Depth(), Normals()]
    found = {task.target: dict.fromkeys(task.compared, 10.0) | {"image_x": 1.0} for task in tasks}
    result = Result.of({task.target: task for task in tasks}, Metrics(found), COST, RECORD)
    last = {name: {metric: value + 1 for metric, value in each.items()} for name, each in found.items()}
    return replace(result, last_epochs=LastEpochs((2, 3), Metrics(last)))


@pytest.mark.parametrize("result", [of_exits(), of_tasks(), of_maps()])
def test_the_file_gives_the_result_back(result):
    assert Result.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_exits_that_classify_keep_their_published_keys():
    content = of_exits().to_json()
    assert [*content] == [
        *["net", "method", "data", "seed"], *["exits", "average_top1", "ensemble_top1", "convention"],
    ]  # fmt: skip
    assert content["exits"][1] == {"top1": 42.0, "top5": 82.0, "params": 4, "flops": None}
    assert content["average_top1"] == 42.0
    assert [*of_exits().scores] == ["exit 1", "exit 2", "exit 3", "average", "ensemble"]


@pytest.mark.parametrize(
    "values", [{"top1": 40.0}, {"top1": 40.0, "top5": 80.0, "f1": 30.0}], ids=["no top5", "one more"]
)
def test_exits_whose_task_has_other_metrics_than_classification_keep_them_all(values, tmp_path):
    outputs = {f"exit {k}": Output(values, "top1", "higher", k, None) for k in (1, 2)}
    found = Metrics(dict.fromkeys(outputs, values), {"top1": 41.0})
    content = metrics_to_json(found, outputs, costs=True)
    check_result({**RECORD, "net": "tiny", "data": "toy", **content}, tmp_path / "result.json")
    assert metrics_from_json(content) == found
    assert outputs_from_json(content) == outputs


def test_several_tasks_have_neither_average_nor_ensemble():
    result = of_tasks()
    assert result.average is None
    assert result.ensemble is None
    assert result.scores == {"class": 50.0, "box": 20.0, "distance": 0.5}
    assert result.better == {"class": "higher", "box": "higher", "distance": "lower"}
    assert result.to_json()["outputs"]["distance"] == {
        "metrics": {"abs_err": 0.5}, "primary": "abs_err", "better": "lower", "params": 5, "flops": 30,
    }  # fmt: skip


def test_delta_m_is_the_mean_relative_loss():
    # (-1)^l (M - B) / B: a fifth more, a quarter less, and half of the error
    assert of_tasks(60.0, 15.0, 0.25).delta_m(of_tasks()) == pytest.approx(100 / 3 * (-0.2 + 0.25 - 0.5))


def split(result):
    """One result for each output, as of networks of one task each."""
    return [replace(result, outputs={name: output}) for name, output in result.outputs.items()]


@pytest.mark.parametrize("label", TABLE_6.delta_m)
def test_delta_m_is_as_published(label):
    def result(row):
        values = iter(TABLE_6.rows[row])
        outputs = {}
        for task in (Segmentation(), Depth(), Normals()):  # in the order of the columns
            metrics = dict(zip(task.compared, values, strict=False))
            outputs[task.target] = Output(metrics, task.primary, task.better, compared=task.compared)
        assert not [*values]
        return Result("net", row, "NYUv2", 0, outputs)

    found = result(label).delta_m(result(TABLE_6.baseline))
    assert found == pytest.approx(TABLE_6.delta_m[label], abs=0.012)  # of metrics in four digits
    assert result(label).delta_m(*split(result(TABLE_6.baseline))) == found


def test_the_file_says_which_way_each_compared_metric_is_better():
    content = of_maps().to_json()
    assert content["outputs"]["segmentation"]["compared"] == {"miou": "higher", "pixacc": "higher"}
    assert content["outputs"]["depth"]["compared"] == {"abs_err": "lower", "rel_err": "lower"}
    assert content["last_epochs"]["epochs"] == [2, 3]
    assert content["last_epochs"]["outputs"]["depth"]["metrics"]["abs_err"] == 11.0


def test_the_mean_of_the_last_epochs_is_a_result():
    result = of_maps()
    # four of nine metrics are better where lower: 5 / 9 of a tenth better, 4 / 9 of it worse
    assert result.of_last_epochs.delta_m(result) == pytest.approx(10 * (4 - 5) / 9)
    assert result.of_last_epochs.outputs["depth"].params == result.outputs["depth"].params
    assert of_tasks().of_last_epochs is None


def test_several_tasks_as_evaluation_prints_them():
    assert of_tasks().to_task_json(-1.5) == {
        "net": "tiny", "method": "joint", "data": "toy", "seed": 3,
        "tasks": {"class": {"top1": 50.0, "top5": 90.0}, "box": {"iou": 20.0}, "distance": {"abs_err": 0.5}},
        "delta_m": -1.5,
    }  # fmt: skip
    assert of_tasks().to_task_json()["delta_m"] is None
    assert of_exits().to_task_json() == of_exits().to_json()


def test_baselines_of_one_task_each_are_one_baseline():
    result, baseline = of_tasks(60.0, 15.0, 0.25), of_tasks()
    assert result.delta_m(*split(baseline)) == result.delta_m(baseline)
    with pytest.raises(UserError, match="two baselines have an output 'box'; give one run"):
        result.delta_m(*split(baseline), baseline)
    with pytest.raises(UserError, match="the baseline has no output 'distance'"):
        result.delta_m(*split(baseline)[:2])
    other = replace(baseline.outputs["box"], compared={"iou": "lower"})
    with pytest.raises(UserError, match=r"'box' is compared by iou .*, the baseline's by iou"):
        result.delta_m(replace(baseline, outputs={**baseline.outputs, "box": other}))


def test_no_relative_change_to_nothing():
    with pytest.raises(UserError, match=r"^class top1 is 50 and 0 in the baseline: it has no"):
        of_tasks().delta_m(of_tasks(top1=0.0))
    with pytest.raises(UserError, match="the baseline has no output 'class'"):
        of_tasks().delta_m(of_exits())


DAMAGE = {
    "nothing": lambda content: content.pop("outputs"),
    "a list": lambda content: content.update(outputs=[]),
    "no metrics": lambda content: content["outputs"]["box"].pop("metrics"),
    "not its primary": lambda content: content["outputs"]["box"].update(primary="top1"),
    "a word": lambda content: content["outputs"]["box"]["metrics"].update(iou="high"),
    "sideways": lambda content: content["outputs"]["box"].update(better="sideways"),
    "no ensemble": lambda content: content.pop("ensemble"),
    "an exit": lambda content: content.update(outputs={"exit 1": None}),
    "compared by a word": lambda content: content["outputs"]["box"].update(compared=5),
    "compared sideways": lambda content: content["outputs"]["box"].update(compared={"iou": "sideways"}),
    "compared by nothing": lambda content: content["outputs"]["box"].update(compared={"f1": "higher"}),
    "no last epochs": lambda content: content.update(last_epochs={}),
    "last epochs of others": lambda content: content.update(
        last_epochs={"epochs": [1], "outputs": {}, "ensemble": None}
    ),
    "last epochs of no number": lambda content: content.update(last_epochs={**content, "epochs": ["one"]}),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_one_line(damage, tmp_path):
    content = of_tasks().to_json()
    damage(content)
    recipe = {"epochs": 1, "lr": 0.1, "milestones": []}
    run = plain_record({"net": "tiny"}, "toy", method="joint", seed=3, recipe=recipe)
    (tmp_path / "run.json").write_text(json.dumps(run))
    (tmp_path / "result.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"in its result\.json") as error:
        read_run(tmp_path)
    assert "\n" not in str(error.value)
