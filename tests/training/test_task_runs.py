"""Whole runs on several tasks, of which samples have some: alone and over two processes, and resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from attentive import Attentive, partly_labelled
from processes import run_in_processes
from safetensors.torch import load_file
from tasks_job import METHODS, RECIPE, STOPPED, net, recipe
from tiny_runs import Tripwire, rows

from offramp import Recipe, fit
from offramp.data import open_data
from offramp.nets import segnet_mtan

JOB = Path(__file__).with_name("tasks_job.py")
ALONE = {**METHODS, "dr-mgf-nyu": {}}  # whose stages go in turn, in one process


@pytest.mark.parametrize("method", ALONE)
def test_a_stopped_run_goes_on_to_the_bit(method, tmp_path):
    recipe = Recipe(
        epochs=2, batch_size=8, lr=0.02, augment="crop-flip", checkpoint_every=2, options=ALONE[method]
    )

    def stop():
        raise KeyError("stop")

    torch.manual_seed(0)
    whole = fit(Attentive(), partly_labelled(), method, recipe, tmp_path / "whole", quiet=True)
    data = partly_labelled(split=Tripwire)
    data.train.at, data.train.act = 7, stop  # in the second epoch, after a checkpoint at its second step
    torch.manual_seed(0)
    with pytest.raises(KeyError):
        fit(Attentive(), data, method, recipe, tmp_path / "cut", quiet=True)
    cut = fit(Attentive(), partly_labelled(), method, recipe, tmp_path / "cut", resume=True, quiet=True)
    torch.testing.assert_close(dict(cut.net.state_dict()), dict(whole.net.state_dict()), rtol=0, atol=0)
    assert cut.result == whole.result
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


@pytest.fixture(scope="module")
def out(made_once):
    return made_once("runs-of-tasks", lambda out: run_in_processes(JOB, out))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_train_as_one(out, tmp_path, method):
    """In many steps one process alone has a box, or none has: absent is what no process has."""
    run = fit(net(), partly_labelled(), method, recipe(method), tmp_path / "run", quiet=True)
    shared = load_file(out / method / "weights.safetensors")
    torch.testing.assert_close(shared, dict(run.net.state_dict()), rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(rows(tmp_path / "run"), rows(out / method), strict=True):
        for key, value in ours.items():
            assert float(theirs[key]) == pytest.approx(float(value), rel=1e-3, nan_ok=True), key


@pytest.mark.slow
@pytest.mark.parametrize("method", STOPPED)
def test_two_processes_resume_to_the_bit(out, method):
    assert all((out / f"stopped-{method}-{rank}").exists() for rank in (0, 1))
    folders = [out / method, out / f"stopped-{method}"]
    assert rows(folders[0]) == rows(folders[1])
    whole, stopped = (load_file(folder / "weights.safetensors") for folder in folders)
    torch.testing.assert_close(stopped, whole, rtol=0, atol=0)


def test_most_steps_lack_a_task():
    """What these tests are for: of the epochs' batches some lack the box, some the shape as well."""
    batches = [
        some
        for epoch in range(2)
        for some in partly_labelled().train.batches(
            8,
            transform=lambda batch, draws: batch,
            device="cpu",
            seed=RECIPE.seed,
            epoch=epoch,
            shuffle=True,
            drop_last=True,
        )
    ]
    assert {tuple(sorted(some.targets)) for some in batches} >= {
        ("color", "shape"),
        ("box", "color", "shape"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cagrad", "dr-mgf-nyu"])
def test_a_stopped_run_of_segnet_mtan_on_rooms_goes_on_to_the_bit(method, tmp_path):
    recipe = Recipe.load("nyuv2").replace(epochs=2, batch_size=2, checkpoint_every=1)
    rooms = {"train_limit": 4, "test_limit": 2, "val_fraction": 0.0}

    def run(folder, stop_at=None, **rest):
        data = open_data("rooms:images=4,test=2,height=32,width=32", **rooms)
        if stop_at is not None:
            data.train.batches = stopping(data.train.batches, stop_at)
        torch.manual_seed(0)
        net = segnet_mtan(width=1)
        net.input_size = data.input_size
        return fit(net, data, method, recipe, tmp_path / folder, quiet=True, **rest)

    whole = run("whole")
    with pytest.raises(KeyError):
        run("cut", stop_at=3)
    cut = run("cut", resume=True)
    torch.testing.assert_close(dict(cut.net.state_dict()), dict(whole.net.state_dict()), rtol=0, atol=0)
    assert cut.result == whole.result
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def stopping(batches, at):
    """The batches of a split, of which there are so many in all before an exception."""
    given = 0

    def some(*arguments, **rest):
        nonlocal given
        for batch in batches(*arguments, **rest):
            given += 1
            if given > at:
                raise KeyError("stop")
            yield batch

    return some
