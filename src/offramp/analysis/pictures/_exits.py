"""Colour, marker and legend of the outputs, exits from shallow to deep, alike in every picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from offramp.reports.plot_lines import MARKERS
from offramp.tasks.outputs import exit_name

__all__ = ["exit_colour", "exit_legend", "exit_marker", "names_or_exits"]

# Ends of matplotlib's plasma: it darkens evenly, so that its order survives grey print and colour blindness.
_SHALLOW, _DEEP = 0.86, 0.0


def exit_colour(k: int, exits: int) -> tuple[float, float, float]:
    """Red, green and blue, from 0 to 1, of exit k (from 0) of so many: light is shallow, dark is deep."""
    import matplotlib

    depth = k / max(1, exits - 1)
    red, green, blue, _ = matplotlib.colormaps["plasma"](_SHALLOW + (_DEEP - _SHALLOW) * depth)
    return red, green, blue


def exit_marker(k: int) -> str:
    """A shape besides the colour; the eighth exit has the first one's again."""
    return MARKERS[k % len(MARKERS)]


def names_or_exits(names: Sequence[str], count: int) -> list[str]:
    """The names of the outputs; those of exits, as many as ``count``, where none are given."""
    return [*names] or [exit_name(k) for k in range(1, count + 1)]


def exit_legend(figure: Any, names: Sequence[str]) -> None:
    """Write the one legend of the outputs to the right of a figure."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="", marker=exit_marker(k), color=exit_colour(k, len(names)), markersize=8)
        for k in range(len(names))
    ]
    figure.legend(
        handles, [*names], loc="outside right upper", frameon=False,
        handletextpad=0.2, fontsize=10,
    )  # fmt: skip
