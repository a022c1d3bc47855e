"""Conflict of the outputs on every shared filter (DR-MGF, arXiv:2305.19844, Fig 1 b and c)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from offramp.analysis.filters import Unit, filter_sums
from offramp.analysis.gradients import TaskGradients

__all__ = ["FilterConflict", "filter_conflicts"]


def filter_conflicts(
    gradients: Sequence[Mapping[str, Tensor]], unit: Unit = "out_channel"
) -> dict[str, Tensor]:
    """The conflict of every shared filter c in one batch, over all ordered pairs of its owners.

    conflict_c = sum_{a, b} max(0, -g_{a,c} . g_{b,c} (1 / ||g_a||^2 + 1 / ||g_b||^2)), where ||g_a|| is over
    all filters that a shares. This is the published code's symmetric form of Eq 2.

    Args:
        gradients: For every output, its loss's gradient on each parameter that it shares; by name.
        unit: What a filter is.

    Returns:
        For every parameter that two or more have one value per filter, as
        :func:`~offramp.analysis.filters.filter_sums` shapes them.
    """
    scale = [
        1 / (sum(g.square().sum() for g in by_name.values()) + 1e-30) if by_name else 0.0
        for by_name in gradients
    ]
    conflicts: dict[str, Tensor] = {}
    for name in {name: None for by_name in gradients for name in by_name}:
        owners = [k for k, by_name in enumerate(gradients) if name in by_name]
        if len(owners) < 2:
            continue
        pairs = [(a, b) for a in owners for b in owners if a < b]
        dots = [filter_sums(gradients[a][name] * gradients[b][name], unit) for a, b in pairs]
        weights = [2 * (scale[a] + scale[b]) for a, b in pairs]  # (a, b) and (b, a)
        conflicts[name] = torch.stack(
            [(-dot * weight).relu() for dot, weight in zip(dots, weights, strict=True)]
        ).sum(0)
    return conflicts


class FilterConflict:
    """Averages :func:`filter_conflicts` over batches.

    Args:
        unit: What a filter is.
    """

    def __init__(self, unit: Unit = "out_channel") -> None:
        self.unit = unit
        self._sums: dict[str, Tensor] = {}
        self._batches = 0

    def add(self, batch: TaskGradients) -> None:
        """Take in one batch."""
        self._batches += 1
        for name, values in filter_conflicts(batch.gradients, self.unit).items():
            self._sums[name] = self._sums.get(name, 0) + values.double().cpu()

    def mean(self) -> dict[str, Tensor]:
        """The mean conflict of every shared filter, float64, in the order of the parameters."""
        return {name: total / self._batches for name, total in self._sums.items()}
