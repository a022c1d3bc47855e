"""A metric against cost, output by output: one line per method, named at its end."""

from __future__ import annotations

import textwrap
from statistics import fmean
from typing import Any

from offramp.reports.comparison import Comparison
from offramp.tasks.outputs import are_exits, heading

__all__ = ["draw_lines", "line_style", "unit_of", "wrapped"]

# Okabe & Ito (2008), told apart by colour-blind readers; yellow is left out, too pale on white.
BASELINE = "#000000"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = "osD^vPX"
STROKES = ("-", "--", ":", "-.")  # one for each round of the colours


def draw_lines(axes: Any, comparison: Comparison) -> None:
    """Draw the lines, with error bars of one standard deviation over the seeds.

    Args:
        axes: matplotlib's.
        comparison: At least one group, of outputs that have one task.
    """
    outputs = [*comparison.result.outputs]
    metric = comparison.result.outputs[outputs[0]].primary
    exits = are_exits(comparison.result.outputs)
    positions, axis = (
        _positions(comparison) if exits else ([[*range(len(outputs))]] * len(comparison.groups), "")
    )
    many = len(comparison.groups) > 1 + len(COLOURS)
    ends = []
    for number, group in enumerate(comparison.groups):
        x = positions[number]
        scores = [group.scores[name] for name in outputs]
        bars = [score.std or 0.0 for score in scores] if len(group.runs) > 1 else None
        colour, stroke = line_style(number)
        axes.errorbar(
            x, [score.mean for score in scores], bars, color=colour, marker=MARKERS[number % len(MARKERS)],
            linestyle=stroke, markersize=4.5 if many else 6,
            linewidth=1.2 if many else 1.8, capsize=2 if many else 3, elinewidth=0.8 if many else 1.2,
            markeredgecolor="white", markeredgewidth=0.6,
        )  # fmt: skip
        ends.append((scores[-1].mean, x[-1], group.label, colour))
    axes.set_xlabel(axis)
    lower = comparison.result.outputs[outputs[0]].better == "lower"
    axes.set_ylabel(f"{heading(metric)}{' (lower is better)' if lower else ''}")
    if not exits:
        axes.set_xticks(range(len(outputs)), outputs)
    axes.set_title(comparison.title, loc="left", fontsize=12)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.03, y=0.08)
    if any(len(group.runs) > 1 for group in comparison.groups):
        note = "bars: one standard deviation over the seeds"
        axes.text(0.99, 0.03, note, transform=axes.transAxes, ha="right", fontsize=9, color="0.4")
    _label(axes, sorted(ends))


def _positions(comparison: Comparison) -> tuple[list[list[float]], str]:
    """Position of each group's exits on the axis, and the axis' name: operations, or numbers if unknown."""
    flops = [[exit_flops for _, exit_flops in group.costs] for group in comparison.groups]
    known = [exit_flops for group in flops for exit_flops in group if exit_flops is not None]
    if len(known) < sum(map(len, flops)):
        return [[float(k) for k in range(1, len(group) + 1)] for group in flops], "exit (FLOPs are unknown)"
    scale, unit = unit_of(max(known))
    return [[(f or 0) / scale for f in group] for group in flops], f"FLOPs per image ({unit})"


def line_style(number: int) -> tuple[str, str]:
    """Colour and stroke of the n-th line, the baseline's from 0."""
    turn, place = divmod(number - 1, len(COLOURS))
    return (COLOURS[place], STROKES[turn % len(STROKES)]) if number else (BASELINE, "-")


def unit_of(operations: float) -> tuple[float, str]:
    """The unit of an axis that goes up to so many operations, and its letter."""
    return (1e9, "G") if operations >= 1e10 else (1e6, "M") if operations >= 1e6 else (1e3, "k")


def wrapped(label: str, width: int = 24) -> str:
    """A long label over several lines of so many letters, so that the picture keeps its place."""
    return textwrap.fill(label, width, break_on_hyphens=False)


def _label(axes: Any, ends: list[tuple[float, float, str, str]]) -> None:
    """Write each line's name to the right of its last point; names that would overlap move apart."""
    low, high = axes.get_ylim()
    ends = [(y, x, wrapped(label), colour) for y, x, label, colour in ends]
    lines = max(label.count("\n") + 1 for _, _, label, _ in ends)
    heights = _apart([y for y, *_ in ends], 0.055 * lines * (high - low))
    shift = max(0.0, heights[-1] - high)  # a stack of names that would leave the top slides down
    for (y, x, label, colour), height in zip(ends, heights, strict=True):
        axes.annotate(
            label,
            (x, y),
            xytext=(1.03, height - shift),
            textcoords=("axes fraction", "data"),
            color=colour,
            va="center",
            fontweight="bold",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "alpha": 0.5,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 6,
            },
        )


def _apart(heights: list[float], gap: float) -> list[float]:
    """The heights nearest to the given rising ones, in least squares, that are ``gap`` apart (pooled)."""
    pools: list[list[float]] = []
    for number, height in enumerate(heights):
        pools.append([height - number * gap])
        while len(pools) > 1 and fmean(pools[-2]) > fmean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    level = [fmean(pool) for pool in pools for _ in pool]
    return [value + number * gap for number, value in enumerate(level)]
