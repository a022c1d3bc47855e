"""A page as a file: whole at every moment, and never in place of anything but an older page."""

from __future__ import annotations

from pathlib import Path

from offramp.errors import UserError, shown
from offramp.output_paths import checked_path
from offramp.reports.html._library import drawing_code
from offramp.reports.html._page import MARK
from offramp.runs.files import write_file

__all__ = ["check_page", "write_page"]


def check_page(name: str | Path, *, to_be_made: Path | None = None) -> Path:
    """Check that a page can be written there, before what it shows is computed.

    Args:
        name: Where.
        to_be_made: A folder that will be there by then.

    Raises:
        UserError: There is something that is no page of this kind, no such folder, or a package is missing.
    """
    path = checked_path(name)
    drawing_code()
    if not path.parent.is_dir() and path.parent != to_be_made:
        raise UserError(f"cannot write {shown(path)}: there is no folder {shown(path.parent)}; make it first")
    if path.is_symlink() or path.exists():
        try:
            with open(path, "rb") as file:
                ours = path.is_file() and file.read(len(MARK)) == MARK.encode()
        except OSError:
            ours = False
        if not ours:
            raise UserError(
                f"{shown(path)} is there already, and is no report; give another name, or move it away"
            )
    return path


def write_page(path: str | Path, page: str) -> None:
    """Write a page, in place of what is there; :func:`check_page` says whether that is an older page.

    Raises:
        UserError: The disk is full or not writable; the older page stays.
    """
    write_file(checked_path(path), page.encode("utf-8", "replace"), then="report again")
