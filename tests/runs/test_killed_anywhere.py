"""A process that is killed in any of its calls to the system leaves a run whose files can all be read."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from processes import TESTS

# Forks a process for each call, which dies in it.
PROGRAM = """
import os, signal, sys
from pathlib import Path
from torch import nn
from offramp.runs import checkpoint
from offramp.runs.beginning import begin, may_begin
from offramp.runs.files import SHA256SUMS, read_bytes, remove_file, write_files, write_folder

CALLS = ("fsync", "replace", "link", "mkdir", "unlink", "rmdir", "open", "ftruncate", "write")
NET = nn.Linear(2, 2)

def work(run):
    lock = begin(run, b"{}" * 99)
    for epoch in (0, 1, 2):
        checkpoint.save(run, NET, {"epoch": epoch}, step=0)
        write_files(run, {"metrics.csv": b"row" * epoch})
    write_files(run, {"weights.safetensors": b"w" * 99, "average.safetensors": b"a" * 99})
    write_files(run, {"result.json": b"r" * 99})
    write_folder(run / "epochs-2", {"result.json": b"r" * 99})
    remove_file(run / "result.json")
    write_files(run, {"run.json": b"[]" * 99})
    lock.release()

def deadly(call, at):
    def dies(*arguments, **rest):
        global done
        done += 1
        if done == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **rest)
    return dies

def child(run, at):
    global done
    done = 0
    os.fsync = lambda handle: None  # which only a loss of power needs, and takes its time
    for name in CALLS:
        setattr(os, name, deadly(getattr(os, name), at))
    work(run)

def check(run):
    if may_begin(run):
        return "not begun"
    assert read_bytes(run / "run.json") in (b"{}" * 99, b"[]" * 99)
    folders = [run, *run.glob("epochs-*")]
    for path in [path for folder in folders for path in folder.iterdir() if path.is_file()]:
        read_bytes(path)
    if (last := checkpoint.last(run)) is None:
        return "without a checkpoint"
    checkpoint.load(last, NET)
    return last.name

out = Path(sys.argv[1])
states = []
for at in range(1, 1000):
    run = out / str(at)
    if not (pid := os.fork()):
        child(run, at)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    states.append(check(run))
    if states[-1] == "not begun":
        begin(run, b"{}" * 99).release()
        check(run)
    if status == 0:
        break
    assert os.WIFSIGNALED(status), status
print(len(states), *dict.fromkeys(states), sep=chr(10))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes by fork")
def test_a_run_can_be_read_whichever_call_kills_its_writer(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=TESTS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    count, *states = done.stdout.splitlines()
    checkpoints = [f"epoch-{epoch:05d}-step-0000000" for epoch in (0, 1, 2)]
    assert states == ["not begun", "without a checkpoint", *checkpoints]
    assert int(count) > 100
