"""Paths as a user writes them, and what stands at one where something else should."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["kind_of", "user_path"]

_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path with ``~`` and ``~user`` at its beginning as home folders, as a shell has them.

    A shell expands them in ``--out ~/x``, but neither in ``--out=~/x`` nor in a file. ``./~`` is a folder of
    that name; so is ``~`` where no home folder is known.
    """
    text = os.fspath(path)
    try:
        expanded = Path(os.path.expanduser(text))
    except ValueError:  # such as no user's name can be
        return Path(text)
    # Path drops the ./ of ./~, which another look must not take for a home folder
    return Path.cwd() / expanded if str(expanded).startswith("~") and text[0] != "~" else expanded


def kind_of(mode: int) -> str:
    """What stands at a path, by the mode that ``os.stat`` tells: ``"a file"``, ``"a pipe"``."""
    return _KINDS.get(stat.S_IFMT(mode), "a device")
