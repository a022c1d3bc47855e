"""The mean of the last epochs is that of runs that end there, whatever stops a run on its way."""

from __future__ import annotations

import json
import tempfile
from statistics import fmean

import pytest
from tiny_dense import dense_data, dense_net
from tiny_runs import Tripwire, rows, tiny_data, tiny_net
from unchecked import unchecked

from offramp import Recipe, Run, UserError, fit
from offramp.runs.evaluation import Evaluation

RECIPE = Recipe(epochs=4, batch_size=4, lr=0.05, schedule="constant", augment="none", val_fraction=0)
LAST = RECIPE.replace(last_epochs=3)
STEPS = 5  # of an epoch


def train(recipe=LAST, folder=None, data=None, **options):
    return fit(dense_net(), data or dense_data(), "joint", recipe, folder, quiet=True, **options)


@pytest.fixture(scope="module")
def finals():
    """The results of runs that end after 1 ... 4 epochs: one is the beginning of the other."""
    return [train(RECIPE.replace(epochs=n, last_epochs=0)).result for n in range(1, 5)]


def mean(results):
    names = {name: output.metrics for name, output in results[0].outputs.items()}
    return {
        name: {metric: fmean(each.outputs[name].metrics[metric] for each in results) for metric in metrics}
        for name, metrics in names.items()
    }


def check(result, finals, first=2):
    """The final epoch is as without, and the mean that of the epochs from the first to the last."""
    assert result.metrics == finals[-1].metrics
    assert result.last_epochs.epochs == tuple(range(first, 5))
    assert result.last_epochs.metrics.outputs == mean(finals[first - 1 :])
    assert result.last_epochs.metrics.ensemble is None


def test_the_mean_is_that_of_runs_that_end_there(finals, tmp_path):
    run = train(folder=tmp_path / "run")
    check(run.result, finals)
    check(Run.open(tmp_path / "run", dense_net()).result, finals)
    assert run.result.of_last_epochs.outputs["depth"].metrics == mean(finals[1:])["depth"]


def test_the_weights_are_those_without_and_nothing_else_stays(tmp_path):
    for name, recipe in (("with", LAST), ("without", RECIPE.replace(last_epochs=0))):
        train(recipe, tmp_path / name)
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("with", "without")]
    assert weights[0] == weights[1]
    files = [{path.name for path in (tmp_path / name).iterdir()} for name in ("with", "without")]
    assert files[0] - files[1] == {"last_epochs.json"}
    assert [*json.loads((tmp_path / "with" / "last_epochs.json").read_text())] == ["2", "3", "4"]


@pytest.mark.parametrize("method", ["pcgrad", "dfs", "uncertainty", "separate", "meta-gf", "dr-mgf"])
def test_each_epoch_is_measured_as_it_was_at_its_end(method, tmp_path):
    """With the test set for validation samples, the log has the same numbers."""
    data = dense_data()
    data.val = data.test
    fit(dense_net(), data, method, LAST, tmp_path / "run", quiet=True)
    measured = json.loads((tmp_path / "run" / "last_epochs.json").read_text())
    for row in rows(tmp_path / "run")[1:]:
        outputs = measured[str(int(float(row["epoch"])))]["outputs"]
        for name, metric in (("segmentation", "miou"), ("depth", "abs_err"), ("normals", "mean_angle")):
            logged = float(row[f"val_{metric}_{name}"])
            assert outputs[name][metric] == pytest.approx(logged, rel=1e-5), (row["epoch"], name)


def test_a_run_that_keeps_nothing_has_the_mean_too(finals, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    check(train().result, finals)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("at", [STEPS + 2, 2 * STEPS, 3 * STEPS + 4])
def test_a_killed_run_resumes_to_the_same_result(finals, at, tmp_path):
    data = dense_data(split=Tripwire)
    data.train.at, data.train.act = at, lambda: (_ for _ in ()).throw(KeyError("stop"))
    with pytest.raises(KeyError):
        train(folder=tmp_path / "run", data=data)
    check(train(folder=tmp_path / "run", resume=True).result, finals)


def test_a_run_killed_while_it_is_measured_measures_again(finals, tmp_path, monkeypatch):
    measured = []
    evaluate = Evaluation.__call__

    def stop(self, split):
        measured.append(split)
        if len(measured) == 2:
            raise KeyError("stop")
        return evaluate(self, split)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "__call__", stop)
        with pytest.raises(KeyError):
            train(folder=tmp_path / "run")
    with pytest.raises(UserError, match="is not finished"):
        Run.open(tmp_path / "run", dense_net())
    check(train(folder=tmp_path / "run", resume=True).result, finals)


def test_each_of_the_last_epochs_is_measured_once(tmp_path, monkeypatch):
    splits = []
    evaluate = Evaluation.__call__
    monkeypatch.setattr(
        Evaluation, "__call__", lambda self, split: splits.append(split) or evaluate(self, split)
    )
    data = dense_data()
    train(data=data)
    assert splits == [data.test] * 3


@pytest.mark.parametrize("begun", [2, 3])
def test_an_extended_run_has_the_mean_of_the_longer_one(finals, begun, tmp_path):
    train(LAST.replace(epochs=begun), tmp_path / "run")
    check(train(LAST, tmp_path / "run", resume=True).result, finals)
    assert not (tmp_path / "run" / "last_epochs").exists()


def test_epochs_whose_weights_are_lost_are_named(finals, tmp_path, capsys):
    train(LAST.replace(epochs=3), tmp_path / "run")
    path = unchecked(tmp_path / "run") / "last_epochs.json"
    other = '{"2": {"outputs": {"depth": {"iou": 5}}, "ensemble": null}}'
    for damaged in ("{", "[]", '{"2": 5}', '{"2": {"outputs": {"depth": 5}, "ensemble": null}}', other):
        path.write_text(damaged)
        with pytest.raises(UserError, match=r"last_epochs\.json.*; restore it from a copy, or delete"):
            train(LAST, tmp_path / "run", resume=True)
    path.unlink()
    check(train(LAST, tmp_path / "run", resume=True).result, finals, first=4)
    assert "without [2, 3]: their weights are no longer there" in capsys.readouterr().err


def test_by_default_dense_outputs_have_ten(finals, tmp_path):
    run = train(RECIPE, tmp_path / "run")
    assert run.recipe.last_epochs == 10
    check(run.result, finals, first=1)
    train(RECIPE, tmp_path / "run", resume=True)  # the same recipe again


def test_exits_have_none_unless_asked_for(tmp_path):
    recipe = Recipe(epochs=2, batch_size=8, augment="none")
    plain, asked = tmp_path / "plain", tmp_path / "asked"
    fit(tiny_net(), tiny_data(), "dfs", recipe, plain, quiet=True)
    run = fit(tiny_net(), tiny_data(), "dfs", recipe.replace(last_epochs=2), asked, quiet=True)
    contents = [json.loads((folder / "result.json").read_text()) for folder in (plain, asked)]
    last = contents[1].pop("last_epochs")
    assert contents[0] == contents[1]
    assert [*last] == ["epochs", "exits", "average_top1", "ensemble_top1"]
    assert Run.open(asked, tiny_net()).result == run.result
    assert not (plain / "last_epochs.json").exists()


@pytest.mark.parametrize("wrong", [-1, 1.5, "ten", True])
def test_a_wrong_number(wrong):
    with pytest.raises(UserError, match=r"last_epochs is .*, must be a whole number of at least 0"):
        Recipe(last_epochs=wrong)
