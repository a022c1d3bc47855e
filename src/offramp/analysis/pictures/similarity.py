"""Fig 13 of DR-MGF, left: how far the exits' routes are apart, beside routes that share nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from offramp.analysis.pictures._lines import stroke
from offramp.analysis.similarity import Likeness
from offramp.reports.canvas import canvas
from offramp.reports.plot_lines import wrapped

__all__ = ["draw_similarity"]

_NEAREST = 1e-6  # distances below are drawn there


def draw_similarity(path: Path, runs: Mapping[str, Likeness]) -> None:
    """Draw the distance of every two exits' routes over how many exits lie between them.

    The distance is 1 less the cosine of |nu| less its mean: 0 for equal routes, 1 by chance.

    Args:
        path: The picture's file.
        runs: Label of a run -> its cosines.
    """
    exits = max(len(likeness.raw) for likeness in runs.values())
    with canvas(path, 7.6, 4.8) as figure:
        axes = figure.add_subplot()
        for number, (label, likeness) in enumerate(runs.items()):
            _draw(axes, label, likeness, number)
        axes.axhline(1, color="black", linewidth=1.4, linestyle=(0, (5, 3)))
        axes.text(
            0.02, 0.98, "dashed: by chance, routes that have nothing in common", va="top", fontsize=10,
            transform=axes.transAxes,
        )  # fmt: skip
        axes.set_yscale("log")
        axes.set_ylim(bottom=min(0.01, max(_NEAREST / 2, axes.get_ylim()[0])), top=8)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xticks(range(1, exits))
        axes.set(xlim=(0.5, exits - 0.5), xlabel="how many exits apart")
        axes.set_ylabel("distance of two exits' routes\n(equal: 0)")
        axes.set_title("how far the exits' routes are apart", loc="left", fontsize=12)
        axes.grid(axis="y", color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
        figure.legend(loc="outside right upper", frameon=False, fontsize=10)


def _draw(axes: Any, label: str, likeness: Likeness, number: int) -> None:
    exits = len(likeness.centred)
    distance = (1 - likeness.centred).clamp(min=_NEAREST).tolist()
    apart = {steps: [distance[k][k + steps] for k in range(exits - steps)] for steps in range(1, exits)}
    style = stroke(number)
    for steps, values in apart.items():
        axes.plot(
            [steps] * len(values), values, style["marker"], color=style["color"], markersize=5, alpha=0.35
        )
    axes.plot(list(apart), [fmean(values) for values in apart.values()], label=wrapped(label), **style)
