"""Fig 4 of DR-MGF: conflict against gain, a point per mini-batch and exit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from offramp.analysis.conflict import OutputInterference, pooled
from offramp.analysis.pictures.canvas import canvas

__all__ = ["draw_interference"]

_FRAME = 3.5  # standard deviations; points beyond are drawn at the edge


def draw_interference(path: Path, found: Mapping[str, Sequence[OutputInterference]]) -> None:
    """Draw a panel per run: standardised gain to the right, standardised conflict upwards.

    Args:
        path: The picture's file.
        found: Label of a run -> its outputs.
    """
    columns = min(3, math.ceil(math.sqrt(len(found))))
    rows = math.ceil(len(found) / columns)
    with canvas(path, 0.8 + 5.3 * columns, 0.6 + 4.2 * rows) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, (label, outputs) in zip(panels, found.items(), strict=False):
            _panel(axes, label, outputs)
        for axes in panels[len(found) :]:
            axes.set_axis_off()
        figure.supxlabel("gain G by the other exits' gradients (standard scores)", fontsize=11)
        figure.supylabel("conflict C with them (standard scores)", fontsize=11)


def _panel(axes: Any, label: str, outputs: Sequence[OutputInterference]) -> None:
    import matplotlib

    shades = matplotlib.colormaps["viridis_r"]
    for k, one in enumerate(outputs):
        if one.r is None:
            continue
        conflict, gain = one.standardised
        axes.scatter(
            [_framed(g) for g in gain], [_framed(c) for c in conflict], s=11, alpha=0.5, linewidths=0,
            color=shades(0.12 + 0.88 * k / max(1, len(outputs) - 1)), label=f"exit {k + 1}: {one.r:+.2f}",
        )  # fmt: skip
    r = pooled(outputs)
    if r is not None:
        axes.axline((0, 0), slope=r, color="#D55E00", linewidth=1.8)
    axes.set_title(f"{label}: r = {'-' if r is None else format(r, '+.2f')}", loc="left", fontsize=12)
    axes.set_xlim(-_FRAME - 0.15, _FRAME + 0.15)
    lowest = min((c for one in outputs for c in one.standardised[0]), default=0.0)
    axes.set_ylim(max(-_FRAME, lowest) - 0.15, _FRAME + 0.15)
    axes.axhline(0, color="0.85", linewidth=0.8, zorder=0)
    axes.axvline(0, color="0.85", linewidth=0.8, zorder=0)
    if r is None:
        axes.text(
            0, 0.2, "no correlation:\ntoo few batches, or all alike", ha="center", va="bottom", color="0.4"
        )
        return
    axes.legend(
        title="r by exit", fontsize=9, title_fontsize=9, markerscale=1.9, handletextpad=0.1,
        labelspacing=0.3, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0),
    )  # fmt: skip


def _framed(value: float) -> float:
    return min(_FRAME, max(-_FRAME, value))
