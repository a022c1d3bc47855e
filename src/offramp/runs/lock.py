"""One writer at a time: a lock on a folder, which dies with its process.

It is an ``flock`` of ``.lock`` in the folder; what that file says of its holder (JSON: pid, host, command) is
only for the messages of others. Processes that :mod:`multiprocessing` forks, such as those that read data,
let go of it at once, so that none holds it when the trainer has been killed. A program that is started with
the file descriptor keeps it: the runs of a sweep. Readers take no lock. Where a file system or an operating
system has no such locks, nobody is kept out.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from offramp.errors import UserError, shown
from offramp.runs.files import disk_errors

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["LOCK", "Lock"]

LOCK = ".lock"
PATIENCE = 3.0  # seconds: a process that was killed holds its lock until its memory has been freed
_held: set[int] = set()


class Lock:
    """A folder's lock, taken; a context that gives it back.

    Args:
        folder: A folder that is there.
        patience: Seconds to wait for another process to give it back; None: a moment.

    Raises:
        UserError: Another process holds it, or the folder is not writable.
    """

    def __init__(self, folder: Path, patience: float | None = None) -> None:
        self.path = folder / LOCK
        self._owner, self._shared = os.getpid(), False
        until = time.monotonic() + (PATIENCE if patience is None else patience)
        while not self._taken():
            if time.monotonic() > until:
                raise UserError(
                    f"{folder} has a writer: {_holder(self.path)}, or what that has started; wait until it "
                    "has ended, or stop it, or choose another folder"
                )
            time.sleep(0.05)
        _held.add(self.descriptor)
        with contextlib.suppress(OSError):  # it is only for a message
            os.ftruncate(self.descriptor, 0)
            os.write(self.descriptor, json.dumps(_me()).encode())

    def _taken(self) -> bool:
        """Whether the lock could be taken."""
        with disk_errors(self.path):
            self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        if (fcntl is None or _flock(self.descriptor)) and self.stands:
            return True
        os.close(self.descriptor)
        return False

    @property
    def stands(self) -> bool:
        """Whether the file that is locked is still that of the folder."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), os.stat(self.path))
        except FileNotFoundError:
            return False

    @property
    def place(self) -> Path | None:
        """Where the folder lies by now, if that can be told, as on Linux."""
        with contextlib.suppress(OSError):
            path = Path(f"/proc/self/fd/{self.descriptor}").readlink()
            if os.path.samestat(os.fstat(self.descriptor), path.stat()):
                return path.parent
        return None

    def share(self) -> list[int]:
        """File descriptors that a program must inherit to hold the lock too; its file stays from now on."""
        self._shared = True
        return [] if fcntl is None else [self.descriptor]

    def release(self) -> None:
        """Give the lock back and delete its file."""
        if os.getpid() != self._owner or self.descriptor not in _held:
            return
        with contextlib.suppress(OSError):
            if self.stands and not self._shared:
                self.path.unlink()
        _held.discard(self.descriptor)
        os.close(self.descriptor)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def _flock(descriptor: int) -> bool:
    """Whether the file is locked by now, or cannot be because its file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _me() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "command": " ".join(sys.argv)[:200]}


def _holder(path: Path) -> str:
    """What a lock's file says of its holder."""
    try:
        told = json.loads(path.read_bytes()[:10_000])
        return f"process {int(told['pid'])} on {shown(told['host'])} ({shown(told['command'])})"
    except (ArithmeticError, LookupError, OSError, RecursionError, TypeError, ValueError):
        return "another process"


def _let_go() -> None:
    """Close the locks that a forked process has inherited."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
