"""A map of paired differences: a row per method, a column per score, blue where better than the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from offramp.reports._text import places_of, unit_of_differences
from offramp.reports.comparison import Comparison
from offramp.reports.paired import ENOUGH_SEEDS, Difference
from offramp.reports.plot_lines import wrapped
from offramp.runs.result import Result
from offramp.text_table import signed

__all__ = ["draw_differences"]


def draw_differences(
    axes: Any,
    rows: Sequence[tuple[str, Mapping[str, Difference]]],
    headings: Mapping[str, str],
    comparison: Comparison,
) -> None:
    """Draw the map.

    Args:
        axes: matplotlib's.
        rows: Each method's label and its differences, one per score.
        headings: Score -> its heading in the picture.
        comparison: Whose differences they are.
    """
    result, baseline = comparison.result, comparison.groups[0].label
    places = places_of(comparison.groups[0])
    shades = _shades(rows, result)
    axes.imshow(shades, cmap="RdBu", vmin=-1.25, vmax=1.25, aspect="auto")
    for y, (_, differences) in enumerate(rows):
        for x, (name, difference) in enumerate(differences.items()):
            axes.text(
                x, y, f"{signed(difference.mean, places[name])}{'*' if difference.decided else ''}",
                ha="center", va="center",
                fontsize=9.5, fontweight="bold" if difference.decided else "normal",
                color="white" if abs(shades[y][x]) > 0.75 else "black",
            )  # fmt: skip
    names = [f"exit {name}" if name.isdigit() else name for name in headings.values()]
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(rows)), [wrapped(label) for label, _ in rows])
    axes.set_xticks([len(result.outputs) - 0.5], minor=True)
    axes.grid(axis="x", which="minor", color="white", linewidth=4)  # sets what is of all outputs apart
    axes.tick_params(length=0, which="both")
    axes.tick_params(axis="x", labelsize=9.5)
    axes.spines[:].set_visible(False)
    starred = any(d.n >= ENOUGH_SEEDS for _, differences in rows for d in differences.values())
    meaning = "; *: the 95 % interval leaves out 0, three or more seeds" if starred else ""
    plain = set(result.better.values()) == {"higher"}
    blue = "" if plain else "; blue: better"
    title = f"difference to {baseline} in {unit_of_differences(result)}{meaning}{blue}"
    axes.set_title(title, loc="left", fontsize=11)


def _shades(rows: Sequence[tuple[str, Mapping[str, Difference]]], result: Result) -> list[list[float]]:
    """From -1 (the largest loss) to 1 (the largest gain)."""
    signs = [1 if result.better[name] == "higher" else -1 for name in rows[0][1]]
    gains = [
        [sign * difference.mean for sign, difference in zip(signs, differences.values(), strict=True)]
        for _, differences in rows
    ]
    floor = 1.0 if unit_of_differences(result) == "points" else 0.0
    largest = max(floor, *(abs(gain) for row in gains for gain in row)) or 1.0
    return [[gain / largest for gain in row] for row in gains]
