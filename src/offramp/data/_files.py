"""Files of data: regular ones alone are read, so that no pipe is waited for and no device read for ever."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from offramp.paths import kind_of

__all__ = ["files_below", "hidden", "open_regular", "read_regular"]

LARGEST = 2**30  # bytes of one file that is read as a whole: an image, not a disk
NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # a pipe opens at once, and is found to be one


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file, or what a link leads to if that is one.

    Raises:
        OSError: It is something else, or cannot be opened.
        ValueError: The path holds what no path can.
    """
    _check_regular(path.stat())  # to open a device may be to do something with it
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | NO_WAIT))  # noqa: SIM115
    try:
        _check_regular(os.fstat(file.fileno()))
    except OSError:
        file.close()
        raise
    return file


def read_regular(path: Path) -> bytes:
    """The content of a regular file of at most 1 GiB, or of what a link leads to.

    Raises:
        OSError: It is something else, larger, or cannot be read.
        ValueError: The path holds what no path can.
    """
    with open_regular(path) as file:
        content = file.read(LARGEST + 1) if os.fstat(file.fileno()).st_size <= LARGEST else None
    if content is None or len(content) > LARGEST:
        raise OSError(errno.EFBIG, "it has more than 1 GiB")
    return content


def hidden(path: Path) -> bool:
    """Whether a file or folder is hidden, such as ``.ipynb_checkpoints``."""
    return path.name.startswith(".")


def files_below(folder: Path, suffixes: set[str]) -> Iterator[Path]:
    """What ends as files of some kind do, in a folder and its subfolders, however deep; not what is hidden.

    Links to folders are not followed, which may lead in circles.

    Raises:
        OSError: A folder cannot be listed.
    """
    folders = [folder]
    while folders:
        for path in folders.pop().iterdir():
            if hidden(path):
                continue
            if path.suffix.lower() in suffixes:
                yield path
            elif not path.is_symlink() and path.is_dir():
                folders.append(path)


def _check_regular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, f"it is {kind_of(found.st_mode)}, not a file")
