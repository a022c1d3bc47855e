"""Fig 13 of DR-MGF, left: how far the exits' routes are apart, beside routes that share nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

from offramp.analysis.pictures._exits import names_or_exits
from offramp.analysis.pictures._lines import stroke
from offramp.analysis.similarity import Likeness
from offramp.reports.canvas import canvas
from offramp.reports.plot_lines import wrapped
from offramp.tasks.outputs import noun_of

__all__ = ["draw_similarity"]

_NEAREST = 1e-6  # distances below are drawn there


def draw_similarity(path: Path, runs: Mapping[str, Likeness], names: Sequence[str] = ()) -> None:
    """Draw the distance of every two exits' routes over how many exits lie between them.

    Of tasks it is drawn pair by pair. The distance is 1 less the cosine of |nu| less its mean: 0 for equal
    routes, 1 by chance.

    Args:
        path: The picture's file.
        runs: Label of a run -> its cosines.
        names: Names of the outputs, if they are no exits.
    """
    names = names_or_exits(names, max(len(likeness.raw) for likeness in runs.values()))
    noun = noun_of(names)
    groups = _by_distance(len(names)) if noun == "exit" else _by_pair(names)
    with canvas(path, 7.6, 4.8) as figure:
        axes = figure.add_subplot()
        for number, (label, likeness) in enumerate(runs.items()):
            _draw(axes, label, likeness, number, [*groups.values()])
        axes.axhline(1, color="black", linewidth=1.4, linestyle=(0, (5, 3)))
        axes.text(
            0.02, 0.98, "dashed: by chance, routes that have nothing in common", va="top", fontsize=10,
            transform=axes.transAxes,
        )  # fmt: skip
        axes.set_yscale("log")
        axes.set_ylim(bottom=min(0.01, max(_NEAREST / 2, axes.get_ylim()[0])), top=8)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xticks(range(1, len(groups) + 1), [*groups])
        axes.set(xlim=(0.5, len(groups) + 0.5), xlabel="how many exits apart" if noun == "exit" else "")
        axes.set_ylabel(f"distance of two {noun}s' routes\n(equal: 0)")
        axes.set_title(f"how far the {noun}s' routes are apart", loc="left", fontsize=12)
        axes.grid(axis="y", color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
        figure.legend(loc="outside right upper", frameon=False, fontsize=10)


def _by_distance(exits: int) -> dict[str, list[tuple[int, int]]]:
    """The pairs of exits by how many exits they are apart."""
    return {str(apart): [(k, k + apart) for k in range(exits - apart)] for apart in range(1, exits)}


def _by_pair(names: Sequence[str]) -> dict[str, list[tuple[int, int]]]:
    """Every pair of outputs by itself, by their names."""
    return {f"{names[a]}\n{names[b]}": [(a, b)] for a, b in combinations(range(len(names)), 2)}


def _draw(
    axes: Any, label: str, likeness: Likeness, number: int, groups: Sequence[Sequence[tuple[int, int]]]
) -> None:
    distance = (1 - likeness.centred).clamp(min=_NEAREST).tolist()
    values = [[distance[a][b] for a, b in group] for group in groups]
    style = stroke(number)
    for place, each in enumerate(values, 1):
        axes.plot([place] * len(each), each, style["marker"], color=style["color"], markersize=5, alpha=0.35)
    axes.plot(range(1, len(groups) + 1), [*map(fmean, values)], label=wrapped(label), **style)
