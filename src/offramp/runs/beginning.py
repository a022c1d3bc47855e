"""A run begins: its folder is made, locked, and its record created by one process alone.

Where there are no locks, still only one process can create ``run.json``. A process that is killed before has
left a folder in which a run may begin.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from offramp.errors import UserError
from offramp.runs.files import create_file, disk_errors, read_bytes, read_errors
from offramp.runs.lock import LOCK, Lock

__all__ = ["begin", "may_begin"]

_LEFTOVER = re.compile(rf"{re.escape(LOCK)}|\.run\.json\..*\.new")


def may_begin(folder: Path) -> bool:
    """Whether a run may begin there: there is nothing, or nothing but what a killed process left.

    Raises:
        UserError: The folder cannot be read.
    """
    with read_errors(folder):
        try:
            return all(_LEFTOVER.fullmatch(path.name) for path in folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return not os.path.lexists(folder)


def begin(folder: Path, record: bytes) -> Lock:
    """Make a run folder with a record; its lock.

    Args:
        folder: One in which a run may begin.
        record: The content of ``run.json``.

    Raises:
        UserError: Another process has begun a run there, or the disk is full or not writable.
    """
    is_new = not folder.exists()
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = Lock(folder)
    try:
        path = folder / "run.json"
        if not (may_begin(folder) and create_file(path, record) and read_bytes(path) == record):
            raise UserError(
                f"another process has begun a run in {folder} meanwhile; choose another folder, or, when it "
                "has ended, go on with that run by `resume=True`"
            )
    except BaseException:
        lock.release()
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()  # if nothing is in it
        raise
    return lock
