"""Two processes take the steps of one: with a data set per task, and with targets in one process only."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from processes import run_in_processes
from safetensors.torch import load_file
from sets_job import PARTLY, RECIPE, SETS, STREAMS, runs
from several_sets import partly_labelled, two_tasks
from tiny_runs import rows

from offramp import Run, fit
from offramp.data import Transform

JOB = Path(__file__).with_name("sets_job.py")
NAMES = [*(f"partly-{m}" for m in PARTLY), *(f"{s}-{m}" for s in STREAMS for m in SETS)]


@pytest.fixture(scope="module")
def out(made_once):
    return made_once("runs-of-sets", lambda out: run_in_processes(JOB, out))


def test_some_steps_have_boxes_in_one_process_only_and_some_in_none():
    def has_box(rank, world):
        batches = partly_labelled().train.batches(
            RECIPE.batch_size // world, transform=Transform((), ()), device="cpu",
            shuffle=True, drop_last=True, rank=rank, world=world,
        )  # fmt: skip
        return ["box" in batch.targets for batch in batches]

    together = has_box(0, 1)
    assert any(together)
    assert not all(together)
    assert has_box(0, 2) != has_box(1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_two_processes_train_as_one(out, tmp_path, name):
    (data, method, recipe) = next(run[:3] for run in runs(out) if run[3].name == name)
    net = two_tasks()
    run = fit(net, data, method, recipe, tmp_path / "run", quiet=True)
    shared = load_file(out / name / "weights.safetensors")
    torch.testing.assert_close(shared, dict(net.state_dict()), rtol=1e-3, atol=1e-5)
    for ours, theirs in zip(rows(tmp_path / "run"), rows(out / name), strict=True):
        for key, value in ours.items():
            assert float(theirs[key]) == pytest.approx(float(value), rel=1e-3, nan_ok=True), key
    theirs = Run.open(out / name, two_tasks()).result.outputs
    assert {k: output.metrics for k, output in theirs.items()} == {
        k: pytest.approx(output.metrics, rel=1e-3) for k, output in run.result.outputs.items()
    }
