"""Importance of each shared filter for each output: from gradient norms, or as routes have learned it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from offramp.analysis.filters import Unit, filter_sums
from offramp.analysis.gradients import TaskGradients
from offramp.methods.loops import Route

__all__ = ["GradientNorms", "Importance", "route_importance"]


@dataclass(frozen=True)
class Importance:
    """Importance of each filter of one parameter for each of its owners.

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

    A shallow output shares few filters, so that its sum is short and each of its scores high: by Eq 5 it owns
    the first layers whatever its gradients are. :meth:`by_chance` says how many, and a sum over the filters
    with the same owners alone lets each of m owners have an m-th by chance.

    Args:
        unit: What a filter is.
    """

    def __init__(self, unit: Unit = "out_channel") -> None:
        self.unit = unit
        self._sums: list[dict[str, Tensor]] = []
        self._sizes: dict[str, Tensor] = {}
        self._batches = 0

    def add(self, batch: TaskGradients) -> None:
        """Take in one batch."""
        self._batches += 1
        self._sums = self._sums or [{} for _ in batch.gradients]
        for sums, gradients in zip(self._sums, batch.gradients, strict=True):
            for name, gradient in gradients.items():
                norms = filter_sums(gradient.double().square(), self.unit).sqrt().cpu()
                sums[name] = sums.get(name, 0) + norms
                if name not in self._sizes:
                    self._sizes[name] = filter_sums(torch.ones_like(gradient, device="cpu"), self.unit)

    def importance(self, *, same_owners: bool = False) -> dict[str, Importance]:
        """The score of every filter of every shared parameter, in float64.

        Args:
            same_owners: Sum over the filters with the same owners as filter i (in a row of exits: those of
                its stage) instead of all that output k shares, which is Eq 5.

        Returns:
            By parameter name. An output without any gradient scores 0 everywhere.
        """
        names = {name: None for sums in self._sums for name in sums}
        owners = {name: tuple(k for k, sums in enumerate(self._sums) if name in sums) for name in names}
        totals: dict[tuple[int, tuple[int, ...] | None], float] = {}
        for name, ks in owners.items():
            for k in ks:
                key = k, ks if same_owners else None
                totals[key] = totals.get(key, 0.0) + self._sums[k][name].square().sum().item()
        result = {}
        for name, ks in owners.items():
            divisors = [totals[k, ks if same_owners else None] or 1.0 for k in ks]
            scores = [self._sums[k][name].square() / total for k, total in zip(ks, divisors, strict=True)]
            result[name] = Importance(ks, torch.stack(scores))
        return result

    def by_chance(self, seed: int = 0) -> GradientNorms:
        """Norms that random gradients would have in as many batches, to compare with.

        Every element of every gradient is drawn from one normal distribution, so that a filter of n elements
        has a norm of the chi distribution; sums over batches are drawn as normal variables of the same mean
        and variance.
        """
        generator = torch.Generator().manual_seed(seed)
        null = GradientNorms(self.unit)
        null._sizes, null._batches = self._sizes, self._batches
        for sums in self._sums:
            drawn = {}
            for name in sums:
                n = self._sizes[name].double()
                mean = math.sqrt(2) * torch.exp(torch.lgamma((n + 1) / 2) - torch.lgamma(n / 2))
                spread = (self._batches * (n - mean.square())).sqrt()
                noise = torch.randn(n.shape, generator=generator, dtype=torch.float64)
                drawn[name] = (self._batches * mean + spread * noise).clamp_min(0)
            null._sums.append(drawn)
        return null


def route_importance(routes: Mapping[str, Route], *, fusion: bool = False) -> dict[str, Importance]:
    """Importance as DR-MGF has learned it: |nu_k| over the sum of its row, kernel by kernel (Fig 12).

    Args:
        routes: By parameter name.
        fusion: Score by what decides the fusion instead, that times the learned scale |s_k|. (To divide by
            its sum over the owners, as Eq 10 does, changes no comparison between owners.)

    Returns:
        Scores ``[owners, m, n]`` in float64.
    """
    result = {}
    for name, route in routes.items():
        nu = route.importance.double().abs()
        scores = nu / (nu.sum(-1, keepdim=True) + 1e-10)
        result[name] = Importance(
            tuple(route.owners), scores * route.scale.double().abs() if fusion else scores
        )
    return result
