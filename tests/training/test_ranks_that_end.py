"""One of several processes ends: the others say which, and why, in one line.

The test stands for torchrun: it holds the store, and sends SIGTERM to the others as soon as one has ended.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import resource
import signal
import sys
import time
from multiprocessing import connection
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from processes import fork_server
from tiny_runs import STEPS, Tripwire, in_process, tiny_data, tiny_net

from offramp import Recipe, UserError, fit
from offramp.cli._guard import guarded
from offramp.distributed import peers
from offramp.training.interrupt import Interruption

RECIPE = Recipe(epochs=3, batch_size=12, lr=0.05, augment="none", checkpoint_every=1)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def full():
    """No file may grow, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))


def broken():
    raise KeyError("of our own")


def train(folder: Path, rank: int, environment: dict[str, str], at: int, act) -> None:
    """What one process does, at a step one of them; as the command line, it says what ended it and exits."""
    torch.set_num_threads(1)
    os.environ |= environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    import lightning_fabric  # noqa: F401

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it says that it begins
    sys.stderr = (folder / f"said-{rank}").open("w")
    with guarded("train", debug=False) as outcome:
        if at < 0 and act is not None:
            act()
        data = tiny_data(split=Tripwire)
        data.train.at, data.train.act = (-1, None) if act is None else (at, act)
        fit(tiny_net(), data, "dfs", RECIPE, folder / "run", device="cpu", quiet=True)
    sys.stderr.flush()
    os._exit(outcome.code)


def launched(store: dist.TCPStore, world: int) -> dict[str, str]:
    """The environment that torchrun gives to each of its processes, but for their ranks."""
    return {
        "MASTER_ADDR": "localhost", "MASTER_PORT": str(store.port), "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world), "TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_USE_AGENT_STORE": "True",
    }  # fmt: skip


def run(folder: Path, world: int, who: int, act, at: int = STEPS) -> tuple[list[int], list[str]]:
    """Exit codes of so many processes, one of which does something before a step, and what they said."""
    store = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    environment = launched(store, world)
    assert in_process(sys.exit, 0) == 0  # the server that starts processes is there
    context = fork_server()
    ranks = [
        context.Process(target=train, args=(folder, r, environment, at, act if r == who else None))
        for r in range(world)
    ]
    for process in ranks:
        process.start()
    assert connection.wait([process.sentinel for process in ranks], timeout=100)
    until = time.monotonic() + 100
    board = dist.PrefixStore("offramp/0/0", store)
    while not all(board.check([f"pid/{rank}"]) for rank in range(world)):  # each can be told of the others
        assert time.monotonic() < until
        time.sleep(0.05)
    for process in ranks:
        process.terminate()
    for process in ranks:
        process.join(100)
    return [process.exitcode for process in ranks], [
        (folder / f"said-{rank}").read_text().rstrip("\n") for rank in range(world)
    ]


def test_a_process_that_is_killed_is_named_by_the_others(tmp_path):
    codes, said = run(tmp_path, 3, 1, killed)
    assert codes == [2, -signal.SIGKILL, 2]
    assert said[1] == ""
    for line in (said[0], said[2]):
        assert line.startswith("offramp train: process 1 of 3 (pid ")
        assert line.endswith(
            ") was killed, as where memory runs out; make room and start all again: "
            "a run goes on from its last checkpoint by --resume"
        )
        assert "\n" not in line


def test_a_full_disk_of_the_first_process_is_told_by_the_other(tmp_path):
    codes, said = run(tmp_path, 2, 0, full)
    assert codes == [2, 2]
    assert said[0].startswith("offramp train: cannot write ")
    assert said[1] == said[0].replace("offramp train: ", "offramp train: process 0 of 2 has ended: ")


def test_a_refusal_to_one_before_they_meet_ends_the_other(tmp_path):
    codes, said = run(tmp_path, 2, 1, refused, at=-1)
    assert codes == [2, 2]
    assert said[1] == "offramp train: the net has no exits; attach some"
    assert said[0] == "offramp train: process 1 of 2 has ended: the net has no exits; attach some"


def refused():
    """Of one process's net alone."""
    import offramp.training.setup as setup

    def refuse(*_):
        raise UserError("the net has no exits; attach some")

    setup.check_method = refuse


def test_an_error_of_one_is_told_by_the_other(tmp_path):
    codes, said = run(tmp_path, 2, 0, broken)
    assert codes == [1, 2]
    assert said[0].startswith("offramp train: internal error: KeyError: 'of our own'")
    assert said[1] == "offramp train: process 0 of 2 has ended: KeyError: 'of our own'"


def interrupted():
    raise KeyboardInterrupt


def test_a_process_that_is_stopped_alone_is_named_too(tmp_path):
    codes, said = run(tmp_path, 2, 0, interrupted)
    assert codes == [130, 2]
    assert said == ["offramp train: interrupted", "offramp train: process 0 of 2 has ended: interrupted"]


@peers.named_if_one_ends
def ends_with(error):
    raise error


@pytest.mark.parametrize(
    "first, then, told",
    [
        (signal.SIGINT, signal.SIGTERM, True),  # Ctrl-C to one, of which torchrun stops the others
        (signal.SIGHUP, signal.SIGTERM, True),
        (signal.SIGTERM, signal.SIGTERM, False),  # to both, as by a scheduler
        (signal.SIGINT, signal.SIGINT, False),
        (signal.SIGTERM, signal.SIGINT, False),
    ],
)
def test_a_signal_that_follows_from_another_process_s_end_names_that_one(monkeypatch, first, then, told):
    """It may come before the connection is seen to break."""
    store = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    for name, value in launched(store, 2).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(peers, "_rounds", itertools.repeat(0))
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(Interruption):
        ends_with(Interruption(first, "stopped at step 4"))
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(UserError if told else Interruption) as error:
        ends_with(Interruption(then, "stopped too"))
    assert str(error.value) == ("process 0 of 2 has ended: stopped at step 4" if told else "stopped too")


def stop_once(signum, frame):
    """As the command line's handler."""
    signal.signal(signum, signal.SIG_IGN)
    raise Interruption(signum, "stopped by SIGTERM")


def acting(at: int, act):
    """A trace function that acts at one of the lines that it sees."""
    lines = itertools.count()

    def trace(frame, event, arg):
        if event == "line" and next(lines) == at:
            act()
        return trace

    return trace


@peers.named_if_one_ends
def broken_connection(at: int):
    """Its callers get a SIGTERM at one of their lines."""
    act = acting(at, lambda: signal.raise_signal(signal.SIGTERM))
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename == peers.__file__:
        frame.f_trace = act
        frame = frame.f_back
    sys.settrace(act)
    raise RuntimeError("Connection closed by peer")


def test_a_sigterm_at_any_line_before_it_is_held_hides_no_cause(monkeypatch):
    """While an error is looked into that came of another process's end, torchrun stops this one too."""
    store = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    for name, value in (launched(store, 2) | {"RANK": "1"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(peers, "_rounds", itertools.repeat(0))
    dist.PrefixStore("offramp/0/0", store).set("failed", "process 0 of 2 has ended: its own error")
    held, hold = [], peers._sigterm_held

    @contextlib.contextmanager
    def noted():
        with hold() as awaited:
            held.append(True)
            yield awaited

    monkeypatch.setattr(peers, "_sigterm_held", noted)
    handler, tracer = signal.getsignal(signal.SIGTERM), sys.gettrace()
    try:
        for at in itertools.count():
            signal.signal(signal.SIGTERM, stop_once)
            with pytest.raises(UserError) as error:
                broken_connection(at)
            sys.settrace(tracer)
            assert str(error.value) == "process 0 of 2 has ended: its own error"
            if held:
                break
    finally:
        sys.settrace(tracer)
        signal.signal(signal.SIGTERM, handler)
    assert at > 10  # lines


def test_one_process_has_no_others(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    peers.named_if_one_ends(peers.wait_for_all)()
    with pytest.raises(KeyError):
        ends_with(KeyError())
