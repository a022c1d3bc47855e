"""Files that a command reads many of, as its answer names them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from offramp.errors import UserError

__all__ = ["printable", "trouble_of"]

NAMED = 3  # files that cannot be read which the last line names


def printable(file: str | os.PathLike[str]) -> str:
    """The name of a file; bytes of it that are no UTF-8 are written out."""
    return os.fspath(file).encode(errors="backslashreplace").decode()


def trouble_of(unread: Sequence[UserError], files: int) -> UserError | None:
    """What to say about files that cannot be read, if there are any.

    Args:
        unread: What is wrong with each of them.
        files: How many files there were.
    """
    if not unread:
        return None
    if files == 1:
        return unread[0]
    named = "; ".join(map(str, unread[:NAMED])) + ("; ..." if len(unread) > NAMED else "")
    return UserError(f"{len(unread)} of {files} images cannot be read: {named}")
