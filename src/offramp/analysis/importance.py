"""How much each output needs each shared filter: from gradient norms, or as routes have learned it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from offramp.analysis.filters import Unit, filter_sums
from offramp.analysis.gradients import TaskGradients
from offramp.loops import Route

__all__ = ["GradientNorms", "Importance", "route_importance"]


@dataclass(frozen=True)
class Importance:
    """How much the owners of one parameter need each of its filters.

    Attributes:
        owners: The outputs, 0-based and ascending.
        scores: One score per owner and filter, ``[owners, m]`` or ``[owners, m, n]``; the higher, the more.
    """

    owners: tuple[int, ...]
    scores: Tensor


class GradientNorms:
    """Importance from gradient norms, added up batch by batch (DR-MGF, arXiv:2305.19844, Eq 5).

        nu_{k,i} = (sum_t ||g^t_{k,i}||)^2 / sum_i' (sum_t ||g^t_{k,i'}||)^2

    over batches t and the shared filters i of output k, so that the size of a loss does not matter. The paper
    adds up during the whole of an ordinary joint training; at fixed weights an epoch of batches says what the
    trained net needs.

    Args:
        unit: What a filter is.
    """

    def __init__(self, unit: Unit = "out_channel") -> None:
        self.unit = unit
        self._sums: list[dict[str, Tensor]] = []

    def add(self, found: TaskGradients) -> None:
        """Take in one batch."""
        self._sums = self._sums or [{} for _ in found.gradients]
        for sums, gradients in zip(self._sums, found.gradients, strict=True):
            for name, gradient in gradients.items():
                norms = filter_sums(gradient.double().square(), self.unit).sqrt().cpu()
                sums[name] = sums.get(name, 0) + norms

    def importance(self) -> dict[str, Importance]:
        """Eq 5 of every shared parameter, in float64; an output without any gradient scores 0 everywhere."""
        totals = [sum(norms.square().sum().item() for norms in sums.values()) for sums in self._sums]
        found = {}
        for name in {name: None for sums in self._sums for name in sums}:
            owners = tuple(k for k, sums in enumerate(self._sums) if name in sums)
            scores = [self._sums[k][name].square() / (totals[k] or 1.0) for k in owners]
            found[name] = Importance(owners, torch.stack(scores))
        return found


def route_importance(routes: Mapping[str, Route], *, fusion: bool = False) -> dict[str, Importance]:
    """Importance as DR-MGF has learned it: |nu_k| over the sum of its row, kernel by kernel (Fig 12).

    Args:
        routes: By parameter name.
        fusion: Score by what decides the fusion instead, that times the learned scale |s_k|. (To divide by
            its sum over the owners, as Eq 10 does, changes no comparison between owners.)

    Returns:
        Scores ``[owners, m, n]`` in float64.
    """
    found = {}
    for name, route in routes.items():
        nu = route.importance.double().abs()
        scores = nu / (nu.sum(-1, keepdim=True) + 1e-10)
        found[name] = Importance(
            tuple(route.owners), scores * route.scale.double().abs() if fusion else scores
        )
    return found
