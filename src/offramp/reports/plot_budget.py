"""The picture of accuracy against a budget: in operations as published, and as the router executes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from offramp.papers.published import Curve
from offramp.reports.budget import Budget
from offramp.reports.budget_groups import BudgetGroup, MeanPoint
from offramp.reports.canvas import canvas
from offramp.reports.plot_lines import line_style, unit_of, wrapped

__all__ = ["plot_budget"]

AXES = {"flops": "all heads, as published", "executed": "as the router executes"}
THIN = 0.9  # of a curve by the best thresholds, in points
COLUMNS = 3  # of the legend
MARKS = {"o": "each exit by itself", "*": "oracle", "s": "static network"}
MARK_STYLE = {
    mark: {"markerfacecolor": "white", "linestyle": "none", "markersize": 9 if mark == "*" else 5}
    for mark in MARKS
}


def plot_budget(budget: Budget, path: str | Path) -> Path:
    """Draw accuracy against mean FLOPs, one curve per method.

    The band of a curve is one standard deviation over the seeds. The thinner curve of a method is that of the
    best thresholds, if they were found. Beside them stand the exits by themselves, the oracle and the static
    network.

    Args:
        budget: From :func:`offramp.reports.budget.budget`.
        path: The picture's file; its ending says the format, e.g. ``.png``, ``.svg``, ``.pdf``.

    Raises:
        UserError: matplotlib is missing, an ending it does not know, or a place where no file can be
            written.
    """
    dearest = max(max(point.flops.mean for point in group.exits) for group in budget.groups)
    scale, unit = unit_of(dearest)
    with canvas(path, 11.5, 5.8, dpi=180) as figure:
        for axes, kind in zip(figure.subplots(1, 2, sharey=True), AXES, strict=True):
            for number, group in enumerate(budget.groups):
                _draw_group(axes, group, kind, scale, line_style(number))
            if budget.published is not None and kind == "flops":
                _draw_published(axes, budget.published[1], budget.groups, scale)
            axes.set_xlabel(f"mean FLOPs per sample ({unit}), {AXES[kind]}")
            axes.grid(color="0.9", linewidth=0.8)
            axes.set_axisbelow(True)
        first = axes.figure.axes[0]
        first.set_ylabel("top-1 %")
        first.set_title(budget.title, loc="left", fontsize=12)
        # once for all methods
        if any(group.best for group in budget.groups):
            first.plot([], [], color="0.4", linewidth=THIN, label="best thresholds")
        for mark, name in MARKS.items():
            first.plot([], [], mark, color="0.4", label=name, **MARK_STYLE[mark])
        handles, labels = first.get_legend_handles_labels()
        figure.legend(
            handles,
            [*map(wrapped, labels)],
            loc="outside lower center",
            ncols=COLUMNS,
            fontsize=9,
            frameon=False,
        )
    return Path(path)


def _draw_group(axes: Any, group: BudgetGroup, kind: str, scale: float, style: tuple[str, str]) -> None:
    colour, stroke = style

    def places(points: Sequence[MeanPoint]) -> tuple[list[float], list[float]]:
        return [getattr(p, kind).mean / scale for p in points], [p.top1.mean for p in points]

    axes.plot(*places(group.published), stroke, color=colour, linewidth=1.8, label=group.label)
    if group.best:
        axes.plot(*places(group.best), stroke, color=colour, linewidth=THIN)
    if len(group.curves) > 1:
        x, y = places(group.published)
        spreads = [point.top1.std or 0.0 for point in group.published]
        low, high = zip(*((mean - s, mean + s) for mean, s in zip(y, spreads, strict=True)), strict=True)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    for marker, points in zip(MARKS, (group.exits, [group.oracle], [group.static]), strict=True):
        axes.plot(*places(points), marker, color=colour, **MARK_STYLE[marker])


def _draw_published(axes: Any, curve: Curve, groups: Sequence[BudgetGroup], scale: float) -> None:
    """The published curves, dotted, in the colour of the measured method of that name if there is one."""
    numbers = {group.label: number for number, group in enumerate(groups)}
    for method, points in curve.points.items():
        colour = line_style(numbers[method])[0] if method in numbers else "0.6"
        x, y = zip(*points, strict=True)
        axes.plot(
            [flops * curve.flops_unit / scale for flops in x], y, ":", color=colour, linewidth=1.5,
            label=f"{method} (published)",
        )  # fmt: skip
