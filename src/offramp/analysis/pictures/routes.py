"""Fig 13 of DR-MGF, right: each exit's strongest connections between two layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from offramp.analysis.pictures.canvas import canvas
from offramp.analysis.routes import connections, stride
from offramp.loops import Route

__all__ = ["draw_routes"]


def draw_routes(path: Path, found: Mapping[str, tuple[str, Route]], *, top: float = 0.2) -> None:
    """Draw a row of panels per run, a panel per exit: input channels to the left, output channels right.

    Every output channel shows its strongest incoming connections, the darker the nearer to the strongest.
    Of many channels every so-manieth is drawn.

    Args:
        path: The picture's file.
        found: Label of a run -> a parameter's name and its route.
        top: Which share of the incoming connections is kept.
    """
    columns = max(len(route.owners) for _, route in found.values())
    with canvas(path, 1.9 * columns + 0.6, 4.6 * len(found)) as figure:
        rows = figure.subfigures(len(found), squeeze=False)[:, 0]
        for part, (label, (name, route)) in zip(rows, found.items(), strict=True):
            _, targets, sources = route.importance.shape
            steps = stride(sources), stride(targets)
            drawn = f"{_some(steps[0], sources)} input, {_some(steps[1], targets)} output channels"
            part.suptitle(
                f"{label}: {name}, the strongest {top:.0%} of what each output channel reads ({drawn})",
                x=0.01, ha="left", fontsize=11,
            )  # fmt: skip
            panels = part.subplots(1, columns, squeeze=False)[0]
            for axes in panels:
                axes.set_axis_off()
            for axes, owner, importance in zip(panels, route.owners, route.importance, strict=False):
                _panel(axes, importance, steps, top)
                axes.set_title(f"exit {owner + 1}", fontsize=11)


def _panel(axes: Any, importance: Tensor, steps: tuple[int, int], top: float) -> None:
    from matplotlib.collections import LineCollection

    targets, sources = importance.shape
    kept = [
        c for c in connections(importance, top=top) if c.source % steps[0] == 0 and c.target % steps[1] == 0
    ]
    kept.sort(key=lambda c: c.strength)  # the strong ones on top
    left, right = (_places(n, step) for n, step in zip((sources, targets), steps, strict=True))
    lines = [[(0, left[c.source]), (1, right[c.target])] for c in kept]
    shades = [(0.0, 0.25, 0.45, c.strength**3) for c in kept]
    axes.add_collection(
        LineCollection(lines, colors=shades, linewidths=[0.2 + 1.4 * c.strength**2 for c in kept])
    )
    for x, places in ((0, left), (1, right)):
        axes.plot([x] * len(places), list(places.values()), "o", color="#D55E00", markersize=3.5, zorder=3)
    axes.set_xlim(-0.08, 1.08)
    axes.set_ylim(1.06, -0.02)
    for x, word in ((0, "in"), (1, "out")):
        axes.text(x, 1.03, word, ha="center", va="center", fontsize=9, color="0.4")


def _places(channels: int, step: int) -> dict[int, float]:
    """Height of each drawn channel, from 0 to 1."""
    drawn = range(0, channels, step)
    return {channel: (n + 0.5) / len(drawn) for n, channel in enumerate(drawn)}


def _some(step: int, channels: int) -> str:
    nth = {2: "2nd", 3: "3rd"}.get(step, f"{step}th")
    return f"all {channels}" if step == 1 else f"every {nth} of {channels}"
