"""The picture of a comparison of several tasks: a panel for each and for Delta-m, a row for each method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from offramp.reports.canvas import canvas
from offramp.reports.columns import columns_of
from offramp.reports.comparison import Comparison
from offramp.reports.groups import Group
from offramp.reports.paired import paired_difference
from offramp.reports.plot_lines import line_style, wrapped
from offramp.tasks.outputs import ARROWS, heading

__all__ = ["plot_tasks"]

PANELS = 4  # side by side


def plot_tasks(comparison: Comparison, path: str | Path) -> None:
    """Draw the metric that stands for each task, with its deviation over the seeds, and Delta-m.

    Args:
        comparison: Of outputs that are tasks.
        path: The picture's file.
    """
    groups, columns = comparison.groups, columns_of(comparison.result)
    across = min(PANELS, len(columns) + 1)
    down = -(-(len(columns) + 1) // across)
    lines = sum(wrapped(group.label).count("\n") + 1.6 for group in groups)
    with canvas(path, 2.2 + 2.6 * across, (1.2 + 0.24 * lines) * down + 0.5) as figure:
        panels = figure.subplots(down, across, squeeze=False, sharey=True).flatten()
        for axes, column in zip(panels, columns, strict=False):
            scores = [group.spread_of(column) for group in groups]
            _draw(axes, groups, [(s.mean, s.std or 0.0) for s in scores])
            axes.set_title(column.output, loc="left", fontsize=11)
            axes.set_xlabel(f"{heading(column.metric)}{ARROWS[column.better]}")
        _delta_m(panels[len(columns)], groups)
        for axes in panels[len(columns) + 1 :]:
            axes.set_axis_off()
        figure.suptitle(comparison.title, x=0.01, ha="left", fontsize=12)
        if any(len(group.runs) > 1 for group in groups):
            note = "bars: one standard deviation over the seeds; of delta-m the 95 % interval of the pairs"
            figure.supxlabel(note, fontsize=9, color="0.4")


def _draw(axes: Any, groups: Sequence[Group], points: Sequence[tuple[float, float] | None]) -> None:
    """A point and its bar for each group that has one; the baseline as a line through the others."""
    for y, point in enumerate(points):
        if point is not None:
            axes.errorbar(
                point[0], y, xerr=point[1] or None, fmt="o", color=line_style(y)[0], capsize=3, markersize=6,
                markeredgecolor="white", markeredgewidth=0.6,
            )  # fmt: skip
    if points[0] is not None:
        axes.axvline(points[0][0], color="0.6", linewidth=1, linestyle=":", zorder=0)
    axes.set_yticks(range(len(groups)), [wrapped(group.label) for group in groups])
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.grid(axis="x", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.12)
    axes.locator_params(axis="x", nbins=4)
    axes.tick_params(labelsize=9.5)


def _delta_m(axes: Any, groups: Sequence[Group]) -> None:
    points: list[tuple[float, float] | None] = [(0.0, 0.0)]
    for group in groups[1:]:
        losses = group.delta_m(groups[0])
        if not losses:
            points.append(None)
            continue
        found = paired_difference(losses, [0.0] * len(losses))
        points.append((found.mean, 0.0 if found.low is None else found.mean - found.low))
    _draw(axes, groups, points)
    axes.set_title("all tasks", loc="left", fontsize=11)
    axes.set_xlabel(f"delta-m %{ARROWS['lower']} to {wrapped(groups[0].label)}")
