"""A comparison as files: the table, its numbers, the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from offramp.plain_json import plain_json
from offramp.reports.comparison import Comparison
from offramp.reports.plot import plot

__all__ = ["write_report"]


def write_report(comparison: Comparison, folder: str | Path) -> dict[str, Any]:
    """Write ``comparison.txt``, ``comparison.json`` and ``comparison.png`` into a folder that is there.

    Returns:
        The content of ``comparison.json``: that of :meth:`Comparison.to_dict`, and where the picture lies.

    Raises:
        UserError: matplotlib is missing.
    """
    folder = Path(folder)
    document = {**comparison.to_dict(), "picture": str(plot(comparison, folder / "comparison.png"))}
    (folder / "comparison.txt").write_text(comparison.table() + "\n", encoding="utf-8")
    text = plain_json(document, indent=1)
    (folder / "comparison.json").write_text(text + "\n", encoding="utf-8")
    return document
