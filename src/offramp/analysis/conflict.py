"""Conflict C and gain G of every mini-batch, and how they go together (DR-MGF, arXiv:2305.19844, Eq 1-4).

To first order a step along g_k + g_rest lowers f_k by step (||g_k||^2 + g_k . g_rest), so G is about
g_k . g_rest / ||g_k||^2, and C is what the opposed filters take from it. Where interference harms, C is
large and G is low: the correlation that the paper speaks of is *negative*.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from offramp.analysis._correlation import pearson, standardised
from offramp.analysis.filters import Unit, filter_sums, shared_owners
from offramp.analysis.gradients import TaskGradients
from offramp.nets import Net

__all__ = ["Interference", "OutputInterference", "conflict", "pooled"]


def conflict(own: Mapping[str, Tensor], rest: Mapping[str, Tensor], unit: Unit = "out_channel") -> float:
    """Eq 2: C = sum over filters i of max(0, -g_i . rest_i / ||g||^2).

    Args:
        own: One output's gradient, by parameter; at least the names of ``rest``.
        rest: The sum of the other outputs' gradients.
        unit: What a filter is.

    Returns:
        C, 0 or more; 0 where the output's own gradient is zero.
    """
    squared = sum(own[name].square().sum().item() for name in rest)
    opposed = sum(filter_sums(own[name] * rest[name], unit).neg().relu().sum().item() for name in rest)
    return opposed / squared if squared > 0 else 0.0


@dataclass(frozen=True)
class OutputInterference:
    """Conflict and gain of one output over T batches.

    Attributes:
        conflict: C of each batch that counts.
        gain: G of each of them.
        left_out: Batches without a G: the step along the output's own gradient did not lower its loss by more
            than rounding, so there is nothing to relate to; or the step along all of them led to infinity.
    """

    conflict: tuple[float, ...]
    gain: tuple[float, ...]
    left_out: int

    @property
    def r(self) -> float | None:
        """Pearson's correlation of C and G; None for fewer than three batches or where one is constant."""
        return pearson(self.conflict, self.gain)

    @property
    def standardised(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Eq 4: C and G with mean 0 and deviation 1 over the batches."""
        return standardised(self.conflict), standardised(self.gain)


class Interference:
    """Measures C and G batch by batch, by plain SGD steps that are taken back.

    For output k, with g_k its gradient and g_rest the sum of the others' on the weights that k shares,

        G = (d f_k(g_k + g_rest) - d f_k(g_k)) / d f_k(g_k)          (Eq 3)

    where d f_k(g) is the change of f_k on the same batch after the step -step * g. All other weights stay.

    Args:
        net: The net; its weights are moved for each step and come back bit by bit.
        step: Length of the steps, a learning rate.
        unit: What a filter is.
        owners: As :func:`~offramp.analysis.filters.shared_owners` finds them, found anew by default.

    Raises:
        UserError: The outputs share nothing.
    """

    def __init__(
        self,
        net: Net,
        *,
        step: float,
        unit: Unit = "out_channel",
        owners: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        owners = shared_owners(net) if owners is None else owners
        self.parameters = {name: p for name, p in net.named_parameters() if name in owners}
        self.step, self.unit = step, unit
        self._pairs: list[list[tuple[float, float]]] = []
        self._batches = 0

    def add(self, batch: TaskGradients) -> None:
        """Measure one batch; costs two forward passes per output."""
        self._batches += 1
        self._pairs = self._pairs or [[] for _ in batch.gradients]
        for k, own in enumerate(batch.gradients):
            others = [g for j, g in enumerate(batch.gradients) if j != k]
            rest = {name: torch.stack([g[name] for g in others if name in g]).sum(0) for name in own}
            alone = self._change(k, batch, own)
            if alone < -self._rounding * abs(batch.losses[k]):
                together = self._change(k, batch, {name: own[name] + rest[name] for name in own})
                if math.isfinite(together):
                    self._pairs[k].append((conflict(own, rest, self.unit), (together - alone) / alone))

    def outputs(self) -> list[OutputInterference]:
        """C and G of the batches measured so far, output by output."""
        return [
            OutputInterference(
                conflict=tuple(c for c, _ in pairs),
                gain=tuple(g for _, g in pairs),
                left_out=self._batches - len(pairs),
            )
            for pairs in self._pairs
        ]

    @property
    def _rounding(self) -> float:
        """Relative error of a loss, from the precision of the weights."""
        return 8 * max(torch.finfo(p.dtype).eps for p in self.parameters.values())

    def _change(self, k: int, batch: TaskGradients, direction: Mapping[str, Tensor]) -> float:
        """Change of f_k on the batch by a step against a direction."""
        kept = {name: self.parameters[name].detach().clone() for name in direction}
        with torch.no_grad():
            try:
                for name, gradient in direction.items():
                    self.parameters[name].sub_(gradient, alpha=self.step)
                return batch.losses_now()[k] - batch.losses[k]
            finally:
                for name, value in kept.items():
                    self.parameters[name].copy_(value)


def pooled(outputs: Sequence[OutputInterference]) -> float | None:
    """Pearson's correlation over the batches of all outputs, each output standardised by itself (Eq 4)."""
    scores = [output.standardised for output in outputs if output.r is not None]
    return pearson([c for cs, _ in scores for c in cs], [g for _, gs in scores for g in gs])
