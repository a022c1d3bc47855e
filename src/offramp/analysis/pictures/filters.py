"""Fig 1 of DR-MGF: the conflict on every shared filter, layer by layer and filter by filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from offramp.analysis.pictures._lines import stroke
from offramp.reports.canvas import canvas
from offramp.reports.plot_lines import wrapped

__all__ = ["FilterLine", "draw_filters"]


@dataclass(frozen=True)
class FilterLine:
    """One line of the picture.

    Attributes:
        label: Label of the method.
        number: Number of its colour; the 0th is the baseline's.
        dashed: Set off from another line of the same colour.
        seeds: For every seed, parameter -> conflict of each filter. The line is their mean.
    """

    label: str
    number: int
    dashed: bool
    seeds: Sequence[Mapping[str, Tensor]]


def draw_filters(path: Path, lines: Sequence[FilterLine], layers: Sequence[str]) -> None:
    """Draw the mean conflict of a filter in every layer, and all filters from the most conflicting on.

    Args:
        path: The picture's file.
        lines: All with the same parameters.
        layers: The parameters that are shown layer by layer.
    """
    with canvas(path, 12.5, 5.2) as figure:
        by_layer, filters = figure.subplots(1, 2, width_ratios=(1.25, 1))
        for line in lines:
            style = stroke(line.number) | ({"linestyle": "--"} if line.dashed else {})
            means = torch.tensor([[seed[name].mean() for name in layers] for seed in line.seeds]).mean(0)
            by_layer.plot(means.tolist(), label=wrapped(line.label, 40), **style)
            conflicts = torch.stack([torch.cat([v.flatten() for v in seed.values()]) for seed in line.seeds])
            ranked = [value for value in conflicts.sort(descending=True).values.mean(0).tolist() if value > 0]
            share = [100 * (n + 0.5) / conflicts.shape[1] for n in range(len(ranked))]
            filters.plot(share, ranked, label=line.label, **(style | {"marker": ""}))
        _finish(by_layer, layers)
        filters.set_yscale("log")
        filters.set_ylim(bottom=max(1e-300, filters.get_ylim()[1] * 1e-7))
        filters.set_xlim(0, 100)
        filters.set_ylabel("conflict of a filter")
        filters.set_xlabel("shared filters, the most conflicting first (%)")
        filters.set_title("every filter", loc="left", fontsize=12)
        filters.grid(axis="y", color="0.9", linewidth=0.8)
        by_layer.set_ylabel("conflict of a filter, mean over batches")
        by_layer.legend(frameon=False, fontsize=10, handlelength=3)


def _finish(axes: Any, layers: Sequence[str]) -> None:
    step = -(-len(layers) // 24)
    texts = [name.removesuffix(".weight").replace("stages.", "stage ") for name in layers]
    axes.set_xticks(range(0, len(layers), step), texts[::step], rotation=60, ha="right", fontsize=9)
    axes.set_title("mean of each layer's filters, shallow to deep", loc="left", fontsize=12)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
