"""Fig 4 of DR-MGF: conflict against gain, a point per mini-batch and exit, and each exit's correlation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from offramp.analysis.conflict import OutputInterference, pooled
from offramp.analysis.pictures._exits import exit_colour, exit_legend, exit_marker, names_or_exits
from offramp.reports.canvas import canvas
from offramp.reports.plot_lines import wrapped
from offramp.tasks.outputs import noun_of
from offramp.text_table import signed

__all__ = ["draw_interference"]

_FRAME = 3.5  # standard deviations; points beyond are drawn at the edge


def draw_interference(
    path: Path, runs: Mapping[str, Sequence[OutputInterference]], names: Sequence[str] = ()
) -> None:
    """Draw a scatter plot per run, standardised conflict (y) over gain (x), with each exit's r below it.

    Args:
        path: The picture's file.
        runs: Label of a run -> its outputs.
        names: Names of the outputs, if they are no exits.
    """
    columns = min(3, math.ceil(math.sqrt(len(runs))))
    rows = math.ceil(len(runs) / columns)
    heights = [0.9 + 3.6 * rows, 1.2 + 0.42 * len(runs)]
    names = names_or_exits(names, max(len(outputs) for outputs in runs.values()))
    noun = noun_of(names)
    with canvas(path, 2.2 + 4.3 * columns, sum(heights)) as figure:
        above, below = figure.subfigures(2, 1, height_ratios=heights)
        panels = above.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flatten()
        for axes, (label, outputs) in zip(panels, runs.items(), strict=False):
            _cloud(axes, label, outputs)
        conflicts = [c for outputs in runs.values() for output in outputs for c in output.standardised[0]]
        panels[0].set_ylim(_framed(min(conflicts, default=-1.0)) - 0.4, _FRAME + 0.2)
        for axes in panels[len(runs) :]:
            axes.set_axis_off()
        above.suptitle(
            f"a cloud that falls: where {noun}s conflict, they lose", x=0.01, ha="left", fontsize=12
        )
        above.supxlabel(f"gain G by the other {noun}s (standard scores)", fontsize=11)
        above.supylabel("conflict C (standard scores)", fontsize=11)
        exit_legend(above, names)
        _correlations(below.add_subplot(), runs, noun)


def _cloud(axes: Any, label: str, outputs: Sequence[OutputInterference]) -> None:
    shown = [(k, *output.standardised) for k, output in enumerate(outputs) if output.r is not None]
    size = min(42.0, max(16.0, 9000 / (1 + sum(len(gain) for _, _, gain in shown))))
    for k, conflict, gain in shown:
        axes.scatter(
            [_framed(g) for g in gain], [_framed(c) for c in conflict], s=size, alpha=0.8, linewidths=0.4,
            edgecolors="white", color=exit_colour(k, len(outputs)), marker=exit_marker(k),
        )  # fmt: skip
    r = pooled(outputs)
    if r is None:
        axes.text(
            0, 0, "no correlation:\ntoo few batches, or all alike", ha="center", va="center", color="0.4"
        )
    else:
        axes.axline((0, 0), slope=r, color="black", linewidth=1.8)
    title = f"{wrapped(label, 38)}\nr = {'-' if r is None else signed(r)}"
    axes.set_title(title, loc="left", fontsize=12)
    axes.set_xlim(-_FRAME - 0.2, _FRAME + 0.2)
    axes.axhline(0, color="0.85", linewidth=0.8, zorder=0)
    axes.axvline(0, color="0.85", linewidth=0.8, zorder=0)


def _correlations(axes: Any, runs: Mapping[str, Sequence[OutputInterference]], noun: str) -> None:
    """A row per run: r of every exit, the pooled one as a line, and where r may as well be 0."""
    for y, outputs in enumerate(runs.values()):
        if (r := pooled(outputs)) is not None:
            fewest = min(len(output.gain) for output in outputs if output.r is not None)
            noise = 2 / math.sqrt(max(4, fewest))
            axes.fill_between([-noise, noise], y - 0.4, y + 0.4, color="0.9", linewidth=0, zorder=0)
            axes.plot([r, r], [y - 0.4, y + 0.4], color="black", linewidth=1.8)
        for k, output in enumerate(outputs):
            if output.r is not None:
                axes.plot(
                    output.r, y, exit_marker(k), color=exit_colour(k, len(outputs)), markersize=9,
                    markeredgecolor="white", markeredgewidth=0.6,
                )  # fmt: skip
    axes.axvline(0, color="0.6", linewidth=0.8, zorder=1)
    axes.set_yticks(range(len(runs)), [wrapped(label) for label in runs])
    axes.tick_params(axis="y", length=0)
    axes.set(xlim=(-1, 1), xticks=(-1, -0.5, 0, 0.5, 1), ylim=(len(runs) - 0.5, -0.5))
    axes.set_xlabel(f"r by {noun}; line: all {noun}s; grey: within two standard errors of 0", fontsize=11)


def _framed(value: float) -> float:
    return min(_FRAME, max(-_FRAME, value))
