"""The cosine of every two outputs' gradients: red where they conflict, blue where they help each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from offramp.analysis.pairs import Cosines
from offramp.reports.canvas import canvas
from offramp.reports.plot_lines import wrapped
from offramp.tasks.outputs import noun_of
from offramp.text_table import signed

__all__ = ["draw_cosines"]


def draw_cosines(path: Path, runs: Mapping[str, Cosines], names: Sequence[str]) -> None:
    """Draw a map per run; in brackets the share of the batches in which two outputs conflict.

    Args:
        path: The picture's file.
        runs: Label of a run -> its cosines.
        names: Names of the outputs.
    """
    side = 1.4 + max(0.85, 0.085 * max(map(len, names))) * len(names)
    with canvas(path, side + 0.6, (0.8 * side + 0.5) * len(runs)) as figure:
        panels = figure.subplots(len(runs), 1, squeeze=False)[:, 0]
        for axes, (label, cosines) in zip(panels, runs.items(), strict=True):
            off_diagonal = [
                [float("nan") if a == b or value is None else value for b, value in enumerate(row)]
                for a, row in enumerate(cosines.mean)
            ]
            axes.imshow(off_diagonal, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
            for a, row in enumerate(cosines.mean):
                for b, (value, share) in enumerate(zip(row, cosines.opposed[a], strict=True)):
                    if a != b and value is not None and share is not None:
                        colour = "white" if abs(value) > 0.6 else "black"
                        text = f"{signed(value)}\n({share:.0%})"
                        axes.text(b, a, text, ha="center", va="center", fontsize=9, color=colour)
            axes.set_xticks(range(len(names)), names, fontsize=9.5)
            axes.set_yticks(range(len(names)), names, fontsize=9.5)
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
            axes.set_title(wrapped(label, 40), loc="left", fontsize=11)
        figure.suptitle(f"cosine of two {noun_of(names)}s' gradients", x=0.01, ha="left", fontsize=12)
        figure.supxlabel("in brackets: share of the batches below 0", fontsize=9)
