"""A lock on a sweep's folder, held as long as any of its runs is at work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from offramp.errors import UserError
from offramp.runs.files import disk_errors

__all__ = ["alone_in"]


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[list[int]]:
    """Make the folder and hold it, until this process and all that inherit the lock have ended.

    The runs of a sweep that was killed go on by themselves; a second sweep must not train into their folders.

    Yields:
        File descriptors for the runs to inherit: none where the system has no such locks (Windows).

    Raises:
        UserError: Another sweep or its runs are at work there, or no folder can be made.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    with file:
        try:
            import fcntl
        except ModuleNotFoundError:
            yield []
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"a sweep, or runs that a killed one left, are at work in {folder}; "
                "wait until they have ended, or give another out folder"
            ) from None
        yield [file.fileno()]
