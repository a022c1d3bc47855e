"""A run that dies anywhere and is resumed ends with the very bits of the run that was left alone."""

from __future__ import annotations

import random
import signal

import pytest
import torch
from tiny_runs import (
    RECIPES,
    STEPS,
    assert_resumes_to,
    in_process,
    tiny_data,
    tiny_net,
    train_on_full_disk,
    train_until_file_operation,
    train_until_signal,
)

from offramp import fit
from offramp.runs import checkpoint

DRAW = random.Random(0)
DEATHS = [
    (step, signum)
    for step, signum in zip(
        DRAW.sample(range(3 * STEPS), 5), [signal.SIGKILL, signal.SIGINT, signal.SIGTERM] * 2, strict=False
    )
]


@pytest.fixture(scope="module", params=RECIPES)
def left_alone(request, tmp_path_factory):
    recipe = RECIPES[request.param]
    folder = tmp_path_factory.mktemp(request.param) / "run"
    net = tiny_net()
    run = fit(net, tiny_data(), "dfs", recipe, folder, quiet=True)
    return recipe, folder, run


@pytest.mark.parametrize(("step", "signum"), DEATHS)
def test_killed_in_an_epoch(left_alone, tmp_path, step, signum):
    recipe, _, _ = left_alone
    folder = tmp_path / "run"
    code = in_process(train_until_signal, folder, recipe, step, signum)
    if signum == signal.SIGKILL:
        assert code == -signal.SIGKILL
    else:
        assert code == 128 + signum
        # the step at hand is finished and saved
        epoch, done = divmod(step + 1, STEPS)
        if done == 0:
            epoch, done = epoch - 1, STEPS
        assert checkpoint.last(folder).name == f"epoch-{epoch:05d}-step-{done:07d}"
        assert signal.Signals(signum).name in (folder / "message").read_text()
    assert_resumes_to(left_alone, folder)


# operations 1 to 11 make the folder and the first checkpoint, 12 to 18 replace it, 19 to 21 write metrics.csv
@pytest.mark.parametrize("operation", range(12, 23))
@pytest.mark.parametrize("left_alone", ["sgd"], indirect=True)
def test_killed_while_writing(left_alone, tmp_path, operation):
    folder = tmp_path / "run"
    assert in_process(train_until_file_operation, folder, RECIPES["sgd"], operation) == -signal.SIGKILL
    assert_resumes_to(left_alone, folder)


@pytest.mark.parametrize(
    ("step", "file_size", "culprit"),
    [(7, 2000, "checkpoint/epoch-00001-step-0000003"), (4, 100, "SHA256SUMS"), (14, 450, "tensorboard/")],
)
@pytest.mark.parametrize("left_alone", ["sgd"], indirect=True)
def test_full_disk(left_alone, tmp_path, capfd, step, file_size, culprit):
    if "tensorboard" in culprit:
        pytest.importorskip("tensorboard")
    folder = tmp_path / "run"
    assert in_process(train_on_full_disk, folder, RECIPES["sgd"], step, file_size) == 2
    message = (tmp_path / "message").read_text()
    assert message.startswith(f"cannot write {folder / culprit}")
    assert "File too large" in message
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]
    assert_resumes_to(left_alone, folder)


def test_resuming_a_finished_run_returns_it(left_alone):
    recipe, folder, run = left_alone
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    net = tiny_net(seed=99)
    again = fit(net, tiny_data(), "dfs", recipe, folder, resume=True, quiet=True)
    assert again.result == run.result
    assert torch.equal(net.heads[0][-1].weight, run.net.heads[0][-1].weight)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_resume_without_a_folder_starts(tmp_path, left_alone):
    recipe, _, run = left_alone
    started = fit(tiny_net(), tiny_data(), "dfs", recipe, tmp_path / "new", resume=True, quiet=True)
    assert started.result == run.result
