"""Pictures of the toy problems: where methods end on problem A, and the race on problem B."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from offramp.analysis.toys._plot_race import draw_race
from offramp.analysis.toys.descent import Descent
from offramp.reports.canvas import canvas
from offramp.reports.plot_lines import MARKERS

__all__ = ["draw"]

OUT, STALLED = "#0072B2", "#E69F00"  # Okabe & Ito (2008); the second is lighter in grey print, too
EDGE = 11.0  # of the plane, as in the published pictures


def draw(descent: Descent, path: str | Path) -> Path:
    """Draw a descent: for A the ways and where they end, for B the plane, the progress and the losses.

    Args:
        descent: From :func:`~offramp.analysis.toys.descent.descend`.
        path: The picture's file; its ending says the format.

    Raises:
        UserError: matplotlib is missing, or the file cannot be written.
    """
    path = Path(path)
    with canvas(path, 14 if descent.problem.name == "b" else 12.4, 5.4) as figure:
        if descent.problem.name == "b":
            draw_race(figure, descent)
        else:
            plane, ends = figure.subplots(1, 2, width_ratios=[1, 1.15])
            _plane(plane, descent)
            _ends(ends, descent)
    return path


def _colour(descent: Descent, m: int, s: int) -> str:
    """Whether a way is still above, where the valleys are, or has left them for the bowls below."""
    return STALLED if float(descent.points[-1, m, s, 1]) > 0 else OUT


def _plane(axes: Any, descent: Descent) -> None:
    """The ways of all methods that step on both losses."""
    ticks, height = _levels(descent)
    axes.contour(ticks, ticks, height, levels=16, colors="0.82", linestyles="solid", linewidths=0.6, zorder=1)
    best = descent.problem.pareto()
    axes.plot(best[:, 0], best[:, 1], color="black", linewidth=5, zorder=2, solid_capstyle="round")
    axes.annotate("Pareto set", best[500].tolist(), (0, -16), textcoords="offset points", ha="center")
    for m, name in enumerate(descent.methods):
        for s in range(len(descent.starts)) if not name.startswith("task") else ():
            way, colour = descent.points[:, m, s], _colour(descent, m, s)
            axes.plot(way[:, 0], way[:, 1], color=colour, linewidth=1.3, alpha=0.8, zorder=3)
            axes.plot(
                *way[-1], "*", color=colour, markeredgecolor="white", markeredgewidth=0.6, markersize=12,
                zorder=4,
            )  # fmt: skip
    for s, start in enumerate(descent.starts):
        axes.plot(*start, MARKERS[s], color="white", markeredgecolor="black", markersize=9, zorder=5)
    axes.set(xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE), aspect="equal", xticks=(-10, 0, 10), yticks=(-10, 0, 10))
    axes.set(xlabel="x₁", ylabel="x₂")
    axes.set_title(
        f"where {descent.steps[-1]:,} steps lead; orange: no further than the valleys",
        loc="left",
        fontsize=11,
    )


def _levels(descent: Descent) -> tuple[Tensor, Tensor]:
    """A grid's ticks ``[n]`` and the sum of the losses on it ``[n, n]``, a row for each x2."""
    ticks = torch.linspace(-EDGE, EDGE, 141, dtype=torch.float64)
    points = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), dim=-1)
    return ticks, descent.problem.losses(points).sum(-1)


def _ends(axes: Any, descent: Descent) -> None:
    """A row per method, the nearest first: its distance to the Pareto set from each start, and its passes."""
    distances = descent.distances()
    order = distances.sum(1).argsort(stable=True).tolist()
    for y, m in enumerate(order):
        axes.axhline(y, color="0.92", linewidth=1, zorder=0)
        for s in range(len(descent.starts)):
            axes.plot(
                float(distances[m, s]), y, MARKERS[s], color=_colour(descent, m, s), markersize=8,
                markeredgecolor="white", markeredgewidth=0.6, clip_on=False,
            )  # fmt: skip
        axes.annotate(
            f"{descent.passes[m] * descent.steps[-1]:,}", (1.16, y), xycoords=("axes fraction", "data"),
            ha="right", va="center", fontsize=10,
        )  # fmt: skip
    axes.annotate("passes", (1.16, -0.9), xycoords=("axes fraction", "data"), ha="right", va="center")
    axes.set_yticks(range(len(order)), [descent.methods[m] for m in order])
    axes.tick_params(axis="y", length=0)
    axes.set(ylim=(len(order) - 0.4, -0.6), xlabel="how far from the Pareto set they end; marks: the start")
    axes.set_xlim(left=-0.035 * axes.get_xlim()[1])
