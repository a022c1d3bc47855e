"""Pictures of the toy problems: every method's way over problem A, and the race on problem B."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from offramp.analysis.pictures.canvas import canvas
from offramp.analysis.toy_descent import Descent
from offramp.analysis.toy_race import draw_race

__all__ = ["draw"]

# Okabe & Ito (2008), one for each start
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00")
COLUMNS = 4
EDGE = 11.0  # of the plane, as in the published pictures


def draw(descent: Descent, path: str | Path) -> Path:
    """Draw a descent: for A a panel per method, for B the plane, the progress and the losses.

    Args:
        descent: From :func:`~offramp.analysis.toy_descent.descend`.
        path: The picture's file; its ending says the format.

    Raises:
        UserError: matplotlib is missing, or the file cannot be written.
    """
    path = Path(path)
    if descent.problem.name == "b":
        with canvas(path, 14, 5.0) as figure:
            draw_race(figure, descent)
        return path
    rows = -(-len(descent.methods) // COLUMNS)
    with canvas(path, 2.9 * COLUMNS, 5.4 * rows + 0.8) as figure:
        above, below = figure.subfigures(2, 1, height_ratios=[2.9 * rows + 0.5, 2.4 * rows + 0.5])
        above.suptitle(
            f"where methods go in {descent.steps[-1]:,} steps; levels of L₁ + L₂, Pareto set in black",
            x=0.01, ha="left", fontsize=12,
        )  # fmt: skip
        below.suptitle("the same in losses; black: the Pareto front", x=0.01, ha="left", fontsize=12)
        levels = _levels(descent)
        for name, m, axes in _panels(above, descent, rows):
            _plane(axes, descent, m, levels)
            axes.set_title(name, fontsize=11, fontweight="bold")
        above.supxlabel("x₁", fontsize=11)
        above.supylabel("x₂", fontsize=11)
        for name, m, axes in _panels(below, descent, rows):
            _losses(axes, descent, m)
            axes.set_title(name, fontsize=11, fontweight="bold")
        below.supxlabel("L₁", fontsize=11)
        below.supylabel("L₂", fontsize=11)
    return path


def _panels(part: Any, descent: Descent, rows: int) -> list[tuple[str, int, Any]]:
    """Each method's name, number and panel; those left over are taken away."""
    panels = part.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).flatten()
    for axes in panels[len(descent.methods) :]:
        axes.set_axis_off()
    return [(name, m, panels[m]) for m, name in enumerate(descent.methods)]


def _levels(descent: Descent) -> tuple[Tensor, Tensor]:
    """A grid's ticks ``[n]`` and the sum of the losses on it ``[n, n]``, a row for each x2."""
    ticks = torch.linspace(-EDGE, EDGE, 141, dtype=torch.float64)
    points = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), dim=-1)
    return ticks, descent.problem.losses(points).sum(-1)


def _plane(axes: Any, descent: Descent, m: int, levels: tuple[Tensor, Tensor]) -> None:
    ticks, height = levels
    axes.contour(ticks, ticks, height, levels=16, colors="0.65", linestyles="solid", linewidths=0.6, zorder=1)
    best = descent.problem.pareto()
    axes.plot(best[:, 0], best[:, 1], color="black", linewidth=3.5, zorder=2, solid_capstyle="round")
    for s in range(len(descent.starts)):
        _way(axes, descent.points[:, m, s], COLOURS[s])
    axes.set(xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE), aspect="equal", xticks=(-10, 0, 10), yticks=(-10, 0, 10))


def _losses(axes: Any, descent: Descent, m: int) -> None:
    front = descent.problem.losses(descent.problem.pareto())
    axes.plot(front[:, 0], front[:, 1], color="black", linewidth=3.5, zorder=2, solid_capstyle="round")
    for s in range(len(descent.starts)):
        _way(axes, descent.losses[:, m, s], COLOURS[s])
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)


def _way(axes: Any, way: Tensor, colour: str) -> None:
    """A trajectory ``[T, 2]``: a ring where it begins, a star where it ends."""
    axes.plot(way[:, 0], way[:, 1], color=colour, linewidth=1.6, zorder=3)
    axes.plot(
        *way[0], "o", color="white", markeredgecolor=colour, markersize=6, markeredgewidth=1.6, zorder=4
    )
    axes.plot(
        *way[-1], "*", color=colour, markeredgecolor="white", markersize=13, markeredgewidth=0.7, zorder=5
    )
