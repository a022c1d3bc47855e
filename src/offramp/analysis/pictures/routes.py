"""Fig 13 of DR-MGF, right: each exit's strongest connections between two layers, and which are its alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from offramp.analysis.pictures._exits import exit_colour, names_or_exits
from offramp.analysis.routes import strongest
from offramp.methods.loops import Route
from offramp.reports.canvas import canvas
from offramp.reports.plot_lines import wrapped
from offramp.tasks.outputs import noun_of

__all__ = ["draw_routes"]

_COMMON = (0.72, 0.72, 0.72)


def draw_routes(
    path: Path, runs: Mapping[str, tuple[str, Route]], names: Sequence[str] = (), *, top: float = 0.2
) -> None:
    """Draw a row of maps per run, one per exit: input channels to the right, output channels down.

    A cell is filled where the connection is among the strongest that its output channel reads: grey where it
    is so for all exits, in the exit's colour where it is not.

    Args:
        path: The picture's file.
        runs: Label of a run -> a parameter's name and its route.
        names: Names of the outputs, if they are no exits.
        top: Which share of the incoming connections is kept.
    """
    names = names_or_exits(names, 1 + max(max(route.owners) for _, route in runs.values()))
    columns = max(len(route.owners) for _, route in runs.values())
    shape = max((route.importance.shape[1:] for _, route in runs.values()), key=lambda s: s[0] / s[1])
    height = 1.6 + min(4.0, max(1.0, 1.75 * shape[0] / shape[1]))
    with canvas(path, max(8.5, 1.95 * columns + 0.6), height * len(runs) + 0.4) as figure:
        figure.suptitle(
            f"the strongest {top:.0%} of what each output channel reads; grey: for all {noun_of(names)}s, "
            "coloured: not",
            x=0.01, ha="left", fontsize=12,
        )  # fmt: skip
        rows = figure.subfigures(len(runs), squeeze=False)[:, 0]
        for subfigure, (label, (name, route)) in zip(rows, runs.items(), strict=True):
            _run(subfigure, label, name, route, strongest(route.importance, top=top), columns, names)


def _run(
    subfigure: Any,
    label: str,
    name: str,
    route: Route,
    kept: Tensor,
    columns: int,
    names: Sequence[str],
) -> None:
    common = kept.all(0)
    shared = f"{int(common.sum())} of {int(kept[0].sum())} connections in {name.removesuffix('.weight')}"
    subfigure.suptitle(
        f"{wrapped(label, 70)}\nall {noun_of(names)}s share {shared}",
        x=0.01,
        ha="left",
        fontsize=11,
        fontweight="bold",
    )
    panels = subfigure.subplots(1, columns, squeeze=False)[0]
    for axes in panels[len(route.owners) :]:
        axes.set_axis_off()
    exits = max(route.owners) + 1
    for axes, owner, own in zip(panels, route.owners, kept, strict=False):
        axes.imshow(
            _cells(own, common, exit_colour(owner, exits)), aspect="auto", interpolation="antialiased"
        )
        axes.set_title(names[owner], fontsize=11)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set(visible=True, color="0.8")
    subfigure.supylabel("output channel", fontsize=9.5)
    subfigure.supxlabel("input channel", fontsize=9.5)


def _cells(own: Tensor, common: Tensor, colour: tuple[float, float, float]) -> Any:
    """Red, green and blue of each connection, ``[m, n, 3]``: white where it is not kept."""
    cells = torch.ones(*own.shape, 3, dtype=torch.float64)
    cells[own] = torch.tensor(colour, dtype=torch.float64)
    cells[common] = torch.tensor(_COMMON, dtype=torch.float64)
    return cells.numpy()
