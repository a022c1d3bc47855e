"""A folder has one writer: the lock names it, dies with it, and is left to nobody whom it forked."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import pytest

from offramp import UserError
from offramp.runs import lock as module
from offramp.runs.lock import Lock

fcntl = pytest.importorskip("fcntl")

# Takes the lock, forks a process that lives on, and says so.
HOLDER = """
import multiprocessing, sys, time
from pathlib import Path
from offramp.runs.lock import Lock
lock = Lock(Path(sys.argv[1]))
worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
worker.start()
print(worker.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.2)


def test_the_second_is_told_who_is_first(tmp_path):
    with Lock(tmp_path):
        with pytest.raises(UserError) as refused:
            Lock(tmp_path)
        told = str(refused.value)
        assert told.startswith(f"{tmp_path} has a writer: process {os.getpid()} on ")
        assert "wait until it has ended, or stop it, or choose another folder" in told and "\n" not in told
        assert json.loads((tmp_path / ".lock").read_text()).keys() == {"pid", "host", "command"}
    assert not [*tmp_path.iterdir()]
    with Lock(tmp_path):
        pass


@pytest.mark.parametrize(
    "junk",
    [b"", b"{", b"[1]", b'{"pid": "x", "host": 1, "command": 2}', b'{"pid": Infinity}', b"\xff", b"[" * 9999],
)
def test_a_lock_that_tells_nothing_is_still_a_lock(tmp_path, junk):
    with Lock(tmp_path):
        (tmp_path / ".lock").write_bytes(junk)
        with pytest.raises(UserError, match="has a writer: another process, or what that has started"):
            Lock(tmp_path)


def test_it_dies_with_its_process_whose_workers_live_on(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True)
    worker = int(holder.stdout.readline())
    try:
        with pytest.raises(UserError, match=f"has a writer: process {holder.pid} on "):
            Lock(tmp_path)
        holder.kill()
        holder.wait()
        os.kill(worker, 0)  # which is still there
        with Lock(tmp_path):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)
        holder.stdout.close()


def test_a_program_that_inherits_it_holds_it(tmp_path):
    with Lock(tmp_path) as lock:
        orphan = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=lock.share()
        )
        with pytest.raises(UserError, match="or what that has started"):
            Lock(tmp_path)
    with pytest.raises(UserError, match="or what that has started"):
        Lock(tmp_path)
    orphan.communicate(b"\n")
    with Lock(tmp_path):
        pass


def test_a_lock_that_is_given_back_soon_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 60)
    first, given_back = Lock(tmp_path), threading.Event()

    def give_back():
        given_back.set()
        first.release()

    threading.Timer(0.3, give_back).start()
    with Lock(tmp_path):
        assert given_back.is_set()


def test_a_file_system_without_locks_keeps_nobody_out(tmp_path, monkeypatch):
    def without(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without)
    with Lock(tmp_path), Lock(tmp_path):
        pass


def test_a_system_without_locks_keeps_nobody_out(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "fcntl", None)
    with Lock(tmp_path) as lock, Lock(tmp_path):
        assert lock.share() == []


def test_a_lock_that_another_has_deleted_does_not_count(tmp_path):
    """A second process may hold a file of that name by then, and its lock must stay."""
    with Lock(tmp_path) as first:
        (tmp_path / ".lock").unlink()
        assert not first.stands
        with Lock(tmp_path) as second:
            first.release()
            assert second.stands


def test_where_the_folder_went(tmp_path):
    if not os.path.exists("/proc/self/fd"):
        pytest.skip("only Linux tells")
    (tmp_path / "a").mkdir()
    with Lock(tmp_path / "a") as lock:
        (tmp_path / "a").rename(tmp_path / "b")
        assert lock.place == tmp_path / "b"
        (tmp_path / "b" / ".lock").unlink()
        assert lock.place is None


def test_a_forked_process_takes_nothing_along(tmp_path):
    with Lock(tmp_path) as lock:
        process = multiprocessing.get_context("fork").Process(target=lock.release)
        process.start()
        process.join(30)
        assert process.exitcode == 0 and lock.stands
        with pytest.raises(UserError, match="has a writer"):
            Lock(tmp_path)
