"""Fig 5 and 12 of DR-MGF: the pruning matrix as it is, and as the published figure shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from offramp.analysis.pictures.canvas import canvas
from offramp.analysis.prune import Pruning

__all__ = ["draw_matrix", "draw_pruning"]


def draw_pruning(path: Path, found: Mapping[str, Pruning], title: str) -> None:
    """Draw a row of two maps per run.

    Args:
        path: The picture's file.
        found: Label of a run -> its matrix.
        title: What the filters were chosen by.
    """
    size = max(len(pruning.change) for pruning in found.values())
    side = 1.6 + 0.52 * size
    with canvas(path, 2 * side + 2.2, (side + 0.7) * len(found) + 0.4) as figure:
        panels = figure.subplots(len(found), 2, squeeze=False)
        for (raw, published), (label, pruning) in zip(panels, found.items(), strict=True):
            percent = [[100 * value for value in row] for row in pruning.change]
            drop = max(1.0, *(abs(value) for row in percent for value in row))
            draw_matrix(
                raw, percent, "{:+.0f}" if drop >= 10 else "{:+.1f}", "RdBu", (-1.25 * drop, 1.25 * drop)
            )
            names = [f"{k} ({n})" for k, n in enumerate(pruning.filters, 1)]
            raw.set_yticks(range(len(names)), names)
            raw.set_ylabel("without the filters of exit (how many)")
            raw.set_title(f"{label}\nchange of accuracy (% of it)", loc="left", fontsize=11)
            draw_matrix(published, pruning.as_published, "{:.2f}", "Greys", (0, 1.25))
            published.set_title("\nsoftmax of -100 x change, as published", loc="left", fontsize=11)
        for axes in panels[-1]:
            axes.set_xlabel("exit that is measured")
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)


def draw_matrix(
    axes: Any, values: Sequence[Sequence[float]], form: str, colours: str, limits: tuple[float, float]
) -> None:
    """Draw a square map with its numbers in it; the diagonal is framed.

    Args:
        axes: matplotlib's.
        values: Rows.
        form: Of the numbers.
        colours: Name of a colour map.
        limits: Values at its two ends.
    """
    image = axes.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto")
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            red, green, blue, _ = image.cmap(image.norm(value))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            colour = "white" if dark else "black"
            axes.text(x, y, form.format(value), ha="center", va="center", fontsize=8.5, color=colour)
        axes.add_patch(_frame(y))
    names = [str(k) for k in range(1, len(values) + 1)]
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _frame(k: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((k - 0.47, k - 0.47), 0.94, 0.94, fill=False, edgecolor="black", linewidth=1.2)
