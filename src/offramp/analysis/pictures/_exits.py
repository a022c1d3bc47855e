"""Colour, marker and legend of the exits, shallow to deep, alike in every picture."""

from __future__ import annotations

from typing import Any

from offramp.reports.plot_lines import MARKERS

__all__ = ["exit_colour", "exit_legend", "exit_marker"]

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


def exit_legend(figure: Any, exits: int) -> None:
    """Write the one legend of the exits to the right of a figure."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="", marker=exit_marker(k), color=exit_colour(k, exits), markersize=8)
        for k in range(exits)
    ]
    figure.legend(
        handles, [f"exit {k + 1}" for k in range(exits)], loc="outside right upper", frameon=False,
        handletextpad=0.2, fontsize=10,
    )  # fmt: skip
