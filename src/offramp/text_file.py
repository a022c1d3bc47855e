"""The text of a small file that a user wrote: a recipe, a sweep, a policy."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from offramp.errors import UserError

__all__ = ["read_text"]

LONGEST = 2**20  # bytes


def read_text(path: str | Path, longest: int = LONGEST) -> str:
    """Read the text of a file; of pipes and devices, which may never end, none.

    Args:
        path: The file.
        longest: Bytes at most.

    Raises:
        UserError: It cannot be read, is no regular file, too large, or no UTF-8 text; the line says why, and
            leaves file and remedy to the caller.
    """
    try:
        _check_regular(os.stat(path).st_mode)
        with open(path, "rb") as file:
            content = file.read(longest + 1)
    except FileNotFoundError:
        raise UserError("there is no such file") from None
    except OSError as error:
        raise UserError(f"it cannot be read: {error.strerror}") from None
    except ValueError as error:  # NUL in its name
        raise UserError(f"there can be no such file: {error}") from None
    if len(content) > longest:
        raise UserError(f"it has more than {longest} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"it is no UTF-8 text, at byte {error.start}") from None


def _check_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise UserError(f"it is a {'folder' if stat.S_ISDIR(mode) else 'pipe or a device'}")
