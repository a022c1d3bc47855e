"""The picture of a comparison: metrics against cost, and below them the differences to the baseline."""

from __future__ import annotations

from pathlib import Path

from offramp.checks import of_kind, path_of
from offramp.reports._plot_differences import draw_differences
from offramp.reports._plot_tasks import plot_tasks
from offramp.reports._text import headings
from offramp.reports.canvas import canvas
from offramp.reports.columns import has_tasks
from offramp.reports.comparison import Comparison
from offramp.reports.plot_lines import draw_lines, wrapped

__all__ = ["plot"]


def plot(comparison: Comparison, path: str | Path) -> Path:
    """Draw metrics against FLOPs, one line per method, and a map of the paired differences to the baseline.

    Outputs that are tasks of their own have a panel each, and Delta-m has another: a point per method.

    Args:
        comparison: From :func:`offramp.reports.compare`.
        path: The picture's file; its ending says the format, e.g. ``.png``, ``.svg``, ``.pdf``.

    Raises:
        UserError: matplotlib is missing, an ending it does not know, or a place where no file can be
            written.
    """
    of_kind("comparison", comparison, Comparison, "what offramp.compare returns")
    path = path_of("path", path, "a picture")
    if has_tasks(comparison.result):
        plot_tasks(comparison, path)
        return Path(path)
    rows = [(g.label, d) for g in comparison.groups[1:] if (d := g.minus(comparison.groups[0])) is not None]
    heights = [4.4 + 0.12 * len(comparison.groups)]
    lines = max((wrapped(label).count("\n") + 1 for label, _ in rows), default=1)
    heights += [0.9 + (0.1 + 0.2 * lines) * len(rows)] if rows else []
    names = headings(comparison.result)
    width = 8.4 + 0.65 * max(0, len(names) - 9)  # a difference and its star need that much
    with canvas(path, width, sum(heights), dpi=180) as figure:
        above, *below = figure.subfigures(len(heights), squeeze=False, height_ratios=heights)[:, 0]
        draw_lines(above.add_subplot(), comparison)
        for part in below:
            draw_differences(part.add_subplot(), rows, names, comparison)
    return Path(path)
