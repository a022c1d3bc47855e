"""A map of paired differences: a row per method, a column per exit, blue above the baseline, red below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from offramp.reports.paired import ENOUGH_SEEDS, Difference
from offramp.reports.plot_lines import wrapped
from offramp.reports.table import signed

__all__ = ["draw_differences"]


def draw_differences(
    axes: Any, rows: Sequence[tuple[str, Sequence[Difference]]], columns: Sequence[str], baseline: str
) -> None:
    """Draw the map.

    Args:
        axes: matplotlib's.
        rows: Each method's label and its differences, one per column.
        columns: What each difference is of: exits by number, then the average and the ensemble.
        baseline: Label of the method to which the differences are.
    """
    values = [[difference.mean for difference in differences] for _, differences in rows]
    largest = max(1.0, *(abs(value) for row in values for value in row))
    axes.imshow(values, cmap="RdBu", vmin=-1.25 * largest, vmax=1.25 * largest, aspect="auto")
    for y, (_, differences) in enumerate(rows):
        for x, difference in enumerate(differences):
            axes.text(
                x, y, f"{signed(difference.mean)}{'*' if difference.decided else ''}",
                ha="center", va="center",
                fontsize=9.5, fontweight="bold" if difference.decided else "normal",
                color="white" if abs(difference.mean) > 0.75 * largest else "black",
            )  # fmt: skip
    axes.set_xticks(range(len(columns)), [f"exit {name}" if name.isdigit() else name for name in columns])
    axes.set_yticks(range(len(rows)), [wrapped(label) for label, _ in rows])
    axes.set_xticks([len(columns) - 2.5], minor=True)
    axes.grid(axis="x", which="minor", color="white", linewidth=4)  # sets the averages apart
    axes.tick_params(length=0, which="both")
    axes.tick_params(axis="x", labelsize=9.5)
    axes.spines[:].set_visible(False)
    starred = any(difference.n >= ENOUGH_SEEDS for _, differences in rows for difference in differences)
    meaning = "; *: the 95 % interval leaves out 0, three or more seeds" if starred else ""
    axes.set_title(f"difference to {baseline} in points{meaning}", loc="left", fontsize=11)
