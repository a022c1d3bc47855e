"""Fig 5 and 12 of DR-MGF: change of every exit's metric without the filters that one exit needs most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from offramp.analysis.pictures._exits import exit_colour, names_or_exits
from offramp.analysis.prune import Pruning
from offramp.reports.canvas import canvas
from offramp.reports.plot_lines import wrapped
from offramp.tasks.outputs import noun_of
from offramp.text_table import signed

__all__ = ["draw_pruning"]


def draw_pruning(
    path: Path,
    runs: Mapping[str, Pruning],
    title: str,
    chance: Mapping[str, Sequence[float]] | None = None,
    names: Sequence[str] = (),
) -> None:
    """Draw a map of the losses per run, and beside it how many filters were taken in each row.

    Args:
        path: The picture's file.
        runs: Label of a run -> its matrix.
        title: The title, which says by what the filters were chosen.
        chance: Label of a run -> how many filters each output would have by chance.
        names: Names of the outputs, if they are no exits.
    """
    exits = max(len(pruning.change) for pruning in runs.values())
    names = names_or_exits(names, exits)
    noun = noun_of(names)
    width, height = max(4.8, 1.6 + (0.62 if noun == "exit" else 1.0) * exits), 1.5 + 0.4 * exits
    with canvas(path, width + 3.2, height * len(runs) + 0.5) as figure:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)
        panels = figure.subplots(len(runs), 2, squeeze=False, sharey="row", width_ratios=[width, 2.4])
        for (losses, counts), (label, pruning) in zip(panels, runs.items(), strict=True):
            verdict = (
                f"in {sum(pruning.diagonal)} of {len(pruning.diagonal)} rows the {noun} itself loses most"
            )
            losses.set_title(f"{wrapped(label, 60)}\n{verdict}", loc="left", fontsize=11, fontweight="bold")
            _losses(losses, pruning, names)
            _filter_counts(counts, pruning, None if chance is None else chance.get(label))
        panels[-1][0].set_xlabel(f"change of its metric (%)\nframed: the {noun} itself, bold: who loses most")


def _losses(axes: Any, pruning: Pruning, names: Sequence[str]) -> None:
    """A row for each exit whose filters are taken, a column for each that is measured."""
    percent = [[100 * value for value in row] for row in pruning.change]
    largest = max(1.0, *(abs(value) for row in percent for value in row))
    image = axes.imshow(percent, cmap="RdBu", vmin=-1.25 * largest, vmax=1.25 * largest, aspect="auto")
    for y, row in enumerate(percent):
        for x, value in enumerate(row):
            axes.text(
                x, y, signed(value, 0 if largest >= 10 else 1), ha="center", va="center", fontsize=9.5,
                fontweight="bold" if value == min(row) < 0 else "normal", color=_ink(image, value),
            )  # fmt: skip
        axes.add_patch(_frame(y))
    exits = range(len(percent))
    axes.set_xticks(exits, names, fontsize=9.5)
    axes.set_yticks(exits, names, fontsize=9.5)
    axes.set_ylabel("without the filters of")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _filter_counts(axes: Any, pruning: Pruning, chance: Sequence[float] | None) -> None:
    """How many filters each exit has for its own, as a number and a bar."""
    exits, numbers = range(len(pruning.filters)), pruning.filters
    axes.barh(exits, numbers, height=0.62, color=[exit_colour(k, len(numbers)) for k in exits])
    for y, number in enumerate(numbers):
        axes.annotate(
            str(number), (0, y), (-4, 0), textcoords="offset points", ha="right", va="center", fontsize=9.5
        )
    title = f"its filters, of {pruning.shared}"
    if chance is not None:
        title += "\n(line: by chance)"
        low, high = ([k + side for k in exits] for side in (-0.42, 0.42))
        axes.vlines(chance, low, high, color="black", linewidth=2, path_effects=[_outline()])
    largest = max(1.0, *numbers, *(chance or ()))
    axes.set_xlim(-0.25 * largest, 1.02 * largest)
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _ink(image: Any, value: float) -> str:
    """White on dark cells, black on light ones."""
    red, green, blue, _ = image.cmap(image.norm(value))
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else "black"


def _outline() -> Any:
    """White around a black line, so that it is seen on a dark bar."""
    from matplotlib.patheffects import withStroke

    return withStroke(linewidth=4, foreground="white")


def _frame(k: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((k - 0.47, k - 0.47), 0.94, 0.94, fill=False, edgecolor="black", linewidth=1.4)
