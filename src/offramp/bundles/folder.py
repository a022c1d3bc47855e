"""The folder that a bundle is written to: a new one, since what a user has is never overwritten."""

from __future__ import annotations

import os
from pathlib import Path

from offramp.errors import UserError
from offramp.output_paths import checked_path

__all__ = ["new_folder"]


def new_folder(path: str | os.PathLike[str]) -> Path:
    """Check that a folder can be made there, before what it holds is computed.

    Raises:
        UserError: Something is there already, or the folder around it is not.
    """
    folder = checked_path(path)
    if os.path.lexists(folder):
        raise UserError(f"{folder} is there already; give another `out`, or move it away")
    if not folder.parent.is_dir():
        raise UserError(f"cannot write {folder}: there is no folder {folder.parent}; make it first")
    return folder
