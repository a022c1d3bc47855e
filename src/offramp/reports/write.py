"""A comparison as files: the table, its numbers, the picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from offramp.checks import of_kind, path_of
from offramp.errors import UserError, shown
from offramp.plain_json import parse_json, plain_json
from offramp.reports.comparison import Comparison
from offramp.reports.plot import plot

__all__ = ["check_report_folder", "write_report"]

DOCUMENT = "comparison.json"
FILES = (DOCUMENT, "comparison.txt", "comparison.png")


def check_report_folder(folder: Path) -> None:
    """Check that :func:`write_report` replaces nothing in a folder but an earlier comparison.

    Raises:
        UserError: A file of another origin has the name of one of the report's.
    """
    there = [name for name in FILES if os.path.lexists(folder / name)]
    if there and not _is_ours(folder / DOCUMENT):
        raise UserError(
            f"{folder / there[0]} is there and of no comparison, and that of these runs would replace it; "
            "choose another folder, or move it away"
        )


def _is_ours(path: Path) -> bool:
    """Whether a file is the document of a comparison."""
    try:
        content = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"runs", "groups"} <= content.keys()


def write_report(comparison: Comparison, folder: str | Path) -> dict[str, Any]:
    """Write ``comparison.txt``, ``comparison.json`` and ``comparison.png`` into a folder that is there.

    Returns:
        The content of ``comparison.json``: that of :meth:`Comparison.to_dict`, and where the picture lies.

    Raises:
        UserError: matplotlib is missing, or there is no such folder.
    """
    of_kind("comparison", comparison, Comparison, "what offramp.compare returns")
    folder = path_of("folder", folder, "a folder that is there")
    if not folder.is_dir():
        raise UserError(f"there is no folder {shown(folder)}; make it first")
    document = {**comparison.to_dict(), "picture": str(folder / "comparison.png")}
    text = plain_json(document, indent=1)
    (folder / DOCUMENT).write_text(text + "\n", encoding="utf-8")  # first: it tells whose the others are
    (folder / "comparison.txt").write_text(comparison.table() + "\n", encoding="utf-8")
    plot(comparison, folder / "comparison.png")
    return document
