"""Colours and strokes of lines that stand for methods."""

from __future__ import annotations

from typing import Any

from offramp.reports.plot_lines import BASELINE, COLOURS, MARKERS, STROKES

__all__ = ["stroke"]


def stroke(number: int) -> dict[str, Any]:
    """matplotlib's options for the line of the n-th method; the 0th is the baseline."""
    stroke_number, colour = divmod(number - 1, len(COLOURS))
    return {
        "color": COLOURS[colour] if number else BASELINE,
        "linestyle": STROKES[stroke_number % len(STROKES)] if number else "-",
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 4.5,
        "markeredgecolor": "white",
        "markeredgewidth": 0.5,
        "linewidth": 1.7,
    }
