"""Training on images that worker processes decode: signals to all processes, and workers that die."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_runs import in_process, tiny_net

from offramp import Recipe, UserError, fit, open_data
from offramp.data import WorkerDied
from offramp.runs import checkpoint
from offramp.training import Interruption

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

RECIPE = Recipe(epochs=2, batch_size=4, lr=0.05, augment="none", size=8)
STEPS = 6  # per epoch
PATIENCE = 60  # seconds for what takes one or five


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Images of several sizes, which stream."""
    folder = tmp_path_factory.mktemp("images")
    for split, count in (("train", 4 * STEPS // 2), ("test", 2)):
        for label in range(2):
            (folder / split / str(label)).mkdir(parents=True)
            for number in range(count):
                image = Image.new("RGB", (9 + number % 3, 10), (100 * label, 9 * number, 0))
                image.save(folder / split / str(label) / f"{number}.png")
    return folder


def stream(images, act=None, at=STEPS + 2, workers=2):
    """The images, with something that happens just before a step of the run is given its batch."""
    data = open_data(images, size=8)
    data.train.workers, plain = workers, data.train.batches

    def batches(*arguments, epoch=0, start=0, **rest):
        given = plain(*arguments, epoch=epoch, start=start, **rest)
        for step, batch in enumerate(given, epoch * STEPS + start):
            if step == at and act is not None:
                act()
            yield batch

    data.train.batches = batches
    return data


def net(seed=0):
    return tiny_net(seed=seed, classes=2)


@pytest.fixture(scope="module")
def left_alone(images, tmp_path_factory):
    run = fit(
        net(), stream(images, workers=0), "dfs", RECIPE, tmp_path_factory.mktemp("a") / "run", quiet=True
    )
    return run.net.state_dict()


def assert_goes_on(folder, images, left_alone):
    run = fit(net(seed=9), stream(images, workers=0), "dfs", RECIPE, folder, resume=True, quiet=True)
    for name, tensor in run.net.state_dict().items():
        assert torch.equal(tensor, left_alone[name]), name


def train(folder: Path, images: Path, act) -> None:
    """What a process of its own does; it exits as a program should, and notes what it was told."""
    torch.set_num_threads(1)
    os.setpgid(0, 0)  # the group of this process and of its workers
    folder.mkdir()
    try:
        fit(net(), stream(images, act), "dfs", RECIPE, folder / "run", quiet=True)
    except (Interruption, UserError) as stop:
        (folder / "message").write_text(str(stop))
        sys.exit(128 + stop.signum if isinstance(stop, Interruption) else 2)


def signal_all_twice():
    """As a scheduler and the launcher beneath it do, each of them to every process."""
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    os.killpg(0, signal.SIGTERM)
    os.killpg(0, signal.SIGTERM)


def signal_by_terminal():
    os.killpg(0, signal.SIGINT)


def kill_workers():
    """All of them, as one of two may have given all its batches while the other was slow."""
    for worker in multiprocessing.active_children():
        worker.kill()
        worker.join()


def end_a_worker_in_vain():
    worker = multiprocessing.active_children()[0]
    worker.terminate()  # what `kill` sends
    os.killpg(0, signal.SIGHUP)


@pytest.mark.parametrize(
    ("act", "signum"),
    [
        (signal_all_twice, signal.SIGTERM),
        (signal_by_terminal, signal.SIGINT),
        (end_a_worker_in_vain, signal.SIGHUP),
    ],
)
def test_a_signal_to_all_processes_leaves_a_checkpoint_at_the_step(
    tmp_path, images, left_alone, capfd, act, signum
):
    assert in_process(train, tmp_path / "it", images, act) == 128 + signum
    folder = tmp_path / "it" / "run"
    assert checkpoint.last(folder).name == "epoch-00001-step-0000003"
    assert f"stopped by {signum.name} at epoch 2 after step 3" in (tmp_path / "it" / "message").read_text()
    assert capfd.readouterr() == ("", "")  # nor do workers say anything
    assert_goes_on(folder, images, left_alone)


def test_a_worker_that_is_killed_is_told_and_what_was_trained_is_kept(tmp_path, images, left_alone, capfd):
    assert in_process(train, tmp_path / "it", images, kill_workers) == 2
    line = (tmp_path / "it" / "message").read_text()
    assert line.startswith("a process that read the data ahead (pid ")
    assert "was ended by SIGKILL" in line
    assert line.endswith(f"go on with the run in {tmp_path / 'it' / 'run'} by `resume=True`")
    assert capfd.readouterr() == ("", "")
    kept = checkpoint.last(tmp_path / "it" / "run").name
    assert "epoch-00001-step-0000003" <= kept < "epoch-00002"  # a few batches were there already
    assert_goes_on(tmp_path / "it" / "run", images, left_alone)


def note_workers_and_die():
    pids = [str(worker.pid) for worker in multiprocessing.active_children()]
    Path(os.environ["NOTE"]).write_text(" ".join(pids))
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc for the state of a process")
def test_workers_end_with_a_trainer_that_is_killed(tmp_path, images, monkeypatch):
    monkeypatch.setenv("NOTE", str(tmp_path / "pids"))
    assert in_process(train_noting, tmp_path, images) == -signal.SIGKILL
    workers = (tmp_path / "pids").read_text().split()
    until = time.monotonic() + PATIENCE
    while any(map(runs, workers)) and time.monotonic() < until:
        time.sleep(0.1)
    assert len(workers) == 2
    assert not [*filter(runs, workers)]


def train_noting(tmp_path: Path, images: Path) -> None:
    os.environ["NOTE"] = str(tmp_path / "pids")
    train(tmp_path / "it", images, note_workers_and_die)


def runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("error", "says", "step"),
    [
        (
            WorkerDied("a reader has ended"),
            "stopped by SIGTERM at epoch 2 after step 2",
            "epoch-00001-step-0000002",
        ),
        (
            RuntimeError("broken pipe"),
            "stopped by SIGTERM; the last checkpoint stands",
            "epoch-00001-step-0000000",
        ),
    ],
)
def test_what_breaks_after_a_signal_counts_as_the_signal(tmp_path, images, error, says, step):
    def break_down():
        os.kill(os.getpid(), signal.SIGTERM)
        raise error

    with pytest.raises(Interruption, match=says) as caught:
        fit(net(), stream(images, break_down, workers=0), "dfs", RECIPE, tmp_path / "run", quiet=True)
    assert caught.value.signum == signal.SIGTERM
    assert checkpoint.last(tmp_path / "run").name == step
