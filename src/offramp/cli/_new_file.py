"""A file that a command shall write, in a place where none is: what a user has is never overwritten."""

from __future__ import annotations

from pathlib import Path

from offramp.output_paths import new_path

__all__ = ["new_file", "new_picture"]


def new_file(name: str, flag: str) -> Path:
    """Check that a file can be written there, before what it holds is computed.

    Args:
        name: Where.
        flag: By which flag that was said.

    Raises:
        UserError: Something is there already, or the folder is not.
    """
    return new_path(name, flag)


def new_picture(name: str | None, flag: str) -> Path | None:
    """Check likewise that a picture can be drawn there, if one is asked for.

    Raises:
        UserError: As for a file; or matplotlib is missing, or does not know the ending.
    """
    from offramp.reports.canvas import check_picture

    return None if name is None else new_file(str(check_picture(name)), flag)
