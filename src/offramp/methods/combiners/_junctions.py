"""Gradients that meet at the forks of a net, weighed there and sent back through the stage before.

One backward pass brings the gradient of all losses to every fork, and to what is not weighed: heads, and
the last stage behind exits. That of an exit's own loss comes through its head, and the rest is the later
losses'. Then each stage before a fork takes one pass with the weighted sum.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from offramp.errors import UserError
from offramp.methods.combiners.backward import Backward
from offramp.methods.combiners.jacobian import (
    Row,
    accumulate,
    average,
    average_gradients,
    gramian,
    in_own_memory,
    levels_of,
    loss_inputs,
)
from offramp.methods.combiners.mgda import mgda_weights
from offramp.methods.combiners.present import by_output
from offramp.methods.combiners.solvers import SolverFailure
from offramp.methods.objectives.step import Step
from offramp.reentrant import reentrant_named
from offramp.tasks.task import wide

__all__ = ["BoundMGDAUB", "feature_weights"]


class BoundMGDAUB(nn.Module):
    """MGDA-UB bound to a net.

    Args:
        net: The net, its forks in place.
        inner: ``samples`` or ``sums``, as :class:`~offramp.methods.combiners.mgda_ub.MGDAUB` has it.
    """

    def __init__(self, net: Any, inner: str) -> None:
        super().__init__()
        self.inner = inner
        self.heads = len(net.heads) // len(net.stages)  # at each fork
        # in tuples, since they are no part of this module
        self._stages = tuple(tuple(stage.parameters()) for stage in net.stages[: len(net.forks)])
        weighted = {p for stage in self._stages for p in stage}
        self._others = tuple(p for p in net.parameters() if p not in weighted)
        self.warned = False

    def forward(self, losses: Sequence[Tensor], step: Step, backward: Backward) -> None:
        """Add a gradient to ``.grad`` of every parameter.

        Raises:
            UserError: The features are out of reach, or a loss reads a stage's parameters by another way.
        """
        if step.trunk is None:
            raise UserError(
                "mgda-ub goes back from the features at forks, which a wrapped net and a batch of several "
                "data sets do not show; give the plain net and batches of one set, or take mgda"
            )
        losses = by_output(losses, step)
        levels = levels_of(step.trunk)
        stages = [[p for p in stage if p.requires_grad] for stage in self._stages]
        others = [p for p in self._others if p.requires_grad]
        totals = self._fill_plain(losses, step, levels, others, backward)
        for j, (level, total, stage) in enumerate(zip(levels, totals, stages, strict=True)):
            if level and stage:
                gradient = self._weighted(j, losses, level, total, backward)
                known = {t: g.to(t.dtype) for t, g in zip(level, gradient, strict=True) if g is not None}
                _accumulate([*known], stage, [*known.values()])
        average_gradients(step.net, backward)  # of an output that is absent everywhere there is none

    def _fill_plain(
        self,
        losses: Sequence[Tensor],
        step: Step,
        levels: Sequence[Sequence[Tensor]],
        others: Sequence[Tensor],
        backward: Backward,
    ) -> list[Row]:
        """Fill ``.grad`` of all but the stages before a fork; the losses' whole gradients at the levels.

        Raises:
            UserError: A loss reads a parameter of these stages by another way than through the features.
        """
        apart = dict.fromkeys(p for read in loss_inputs(losses, step) for p in read.leaves)
        if any(p in apart for stage in self._stages for p in stage):
            raise UserError(
                "a loss reads parameters of a stage directly, as a penalty does, and mgda-ub goes back to "
                "them from the features alone; take mgda, or leave the penalty out"
            )
        live = [loss for loss in losses if loss.requires_grad]
        tensors = [t for level in levels for t in level]
        seeds = [torch.full_like(loss, backward.scale) for loss in live]
        found = iter(_accumulate(live, [*dict.fromkeys([*others, *apart])], seeds, tensors))
        return [[next(found) for _ in level] for level in levels]

    def _weighted(
        self, j: int, losses: Sequence[Tensor], level: Sequence[Tensor], total: Row, backward: Backward
    ) -> Row:
        """The weighted sum of the gradients that meet at fork j (from 0), Tensor by Tensor of the feature."""
        here = range(j * self.heads, (j + 1) * self.heads)
        rows, later = [], list(total)
        for k in here:
            if losses[k].requires_grad:
                seed = torch.full_like(losses[k], backward.scale)
                rows.append(_gradients([losses[k]], level, [seed]))
                later = [_difference(a, b) for a, b in zip(later, rows[-1], strict=True)]
        counts = [1.0] * len(rows)
        if behind := sum(loss.requires_grad for loss in losses[here.stop :]):
            rows.append(later)
            counts.append(behind)
        if not rows:  # no loss with a weight reaches the fork
            return [None] * len(level)
        weights = self._weights(self._products(rows, level, backward), counts)
        return [_sum(weights.tolist(), tensors) for tensors in zip(*rows, strict=True)]

    def _products(self, rows: list[Row], level: Sequence[Tensor], backward: Backward) -> Tensor:
        """Inner products of the rows, over the samples of all processes: ``[m, m]`` float64 on the CPU.

        Of several processes they are a multiple of these, which leaves the weights as they are.
        """
        if self.inner == "samples":
            products = gramian(rows, level)
            if backward.average is not None:
                products = products.to(level[0].device)
                backward.average(products)
            return products.cpu()
        sums = [[None if g is None else wide(g).sum(0) for g in row] for row in rows]
        like = [t[0] for t in level]
        if backward.average is not None:
            sums = [[*average(row, like, backward.average)] for row in sums]
        return gramian(sums, like)

    def _weights(self, products: Tensor, counts: Sequence[float]) -> Tensor:
        if not bool(products.isfinite().all()):
            return torch.full((len(counts),), torch.inf, dtype=torch.float64)  # so that the step is skipped
        try:
            return feature_weights(products, torch.tensor(counts, dtype=torch.float64))
        except (SolverFailure, np.linalg.LinAlgError) as error:
            if not self.warned:
                self.warned = True
                warnings.warn(
                    f"mgda-ub found no weights at a fork ({error}); it takes the plain sum there, and will "
                    "do so in silence from here on",
                    RuntimeWarning,
                    stacklevel=2,
                )
            return torch.ones(len(counts), dtype=torch.float64)


def feature_weights(gramian: Tensor, counts: Tensor) -> Tensor:
    """Weights of the shortest vector of the hull, scaled so that equal losses give their sum.

    With all losses alike a gradient of c losses is c times as long as that of one, and the shortest is that
    of the fewest; so the factor is the number of all losses over this one.

    Args:
        gramian: ``[m, m]`` float64.
        counts: ``[m]``, of how many losses each gradient is the sum.

    Returns:
        ``[m]``; 1 where a gradient is 0.

    Raises:
        SolverFailure: The solver did not converge.
    """
    weights = torch.ones(len(counts), dtype=torch.float64)
    there = gramian.diagonal() > 0
    if there.any():
        counts = counts[there]
        shares = mgda_weights(gramian[there][:, there]) / len(counts)
        weights[there] = shares * (counts.sum() / counts.min())
    return weights


def _gradients(outputs: Sequence[Tensor], inputs: Sequence[Tensor], seeds: Sequence[Tensor]) -> Row:
    """Gradients at the inputs; the graph stays."""
    if not outputs:
        return [None] * len(inputs)
    with reentrant_named():
        return [*torch.autograd.grad(outputs, inputs, seeds, retain_graph=True, allow_unused=True)]


def _accumulate(
    outputs: Sequence[Tensor],
    parameters: Sequence[Tensor],
    seeds: Sequence[Tensor],
    others: Sequence[Tensor] = (),
) -> Row:
    """Add the parameters' gradients to ``.grad``; return those at other tensors."""
    found = _gradients(outputs, [*parameters, *others], seeds)
    mine, rest = found[: len(parameters)], found[len(parameters) :]
    for parameter, gradient in zip(parameters, in_own_memory(mine, rest), strict=True):
        if gradient is not None:
            accumulate(parameter, gradient)
    return rest


def _difference(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return a if a is None or b is None else wide(a) - wide(b)


def _sum(weights: Sequence[float], tensors: Sequence[Tensor | None]) -> Tensor | None:
    pairs = [(w, t) for w, t in zip(weights, tensors, strict=True) if t is not None]
    return sum((w * wide(t) for w, t in pairs[1:]), pairs[0][0] * wide(pairs[0][1])) if pairs else None
