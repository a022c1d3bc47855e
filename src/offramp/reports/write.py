"""A comparison as files: the table, its numbers, the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from offramp.checks import of_kind, path_of
from offramp.errors import UserError, shown
from offramp.plain_json import plain_json
from offramp.reports.comparison import Comparison
from offramp.reports.plot import plot

__all__ = ["write_report"]


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
    document = {**comparison.to_dict(), "picture": str(plot(comparison, folder / "comparison.png"))}
    (folder / "comparison.txt").write_text(comparison.table() + "\n", encoding="utf-8")
    text = plain_json(document, indent=1)
    (folder / "comparison.json").write_text(text + "\n", encoding="utf-8")
    return document
