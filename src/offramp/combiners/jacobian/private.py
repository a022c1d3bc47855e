"""What a loss has to itself, done with before what it shares.

A head, or a last stage that no other loss goes through, gets its gradient from one pass, whatever the weights
on the shared part turn out to be. That pass stops where other losses join, frees the graph above, and a
stand-in for the loss waits there with the gradient at the feature. So nothing above is run again, neither for
the inner products nor for the weighted gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from offramp.combiners.jacobian.block import accumulate
from offramp.combiners.jacobian.cuts import kept
from offramp.combiners.jacobian.graph import Walk, cut_apart, levels_of, saves, survey
from offramp.combiners.jacobian.run import unshared

__all__ = ["settle"]


def settle(
    losses: Sequence[Tensor],
    trunk: Sequence[Any] | None,
    need: Sequence[Mapping[Tensor, None]],
    scale: float,
) -> tuple[list[Tensor], set[Tensor]]:
    """Add to ``.grad`` what belongs to one loss alone, where that frees more memory than the stand-in takes.

    Args:
        losses: K scalars.
        trunk: The features between the stages.
        need: For each loss the parameters that it reaches.
        scale: Factor of the losses.

    Returns:
        The losses, or what stands in for them: scalars (without a value) of the same gradients. And the
        parameters that have theirs.
    """
    live = [j for j, loss in enumerate(losses) if loss.requires_grad and need[j]]
    levels = levels_of(trunk)
    stops, stages, heads = survey(losses, live, levels)
    stand_ins, settled = list(losses), set[Tensor]()
    if not cut_apart(levels, stops, stages):
        return stand_ins, settled
    for j in live:
        level, nodes, leaves = _private(j, stages, heads, need)
        if level < 0 or sum(map(kept, nodes)) < sum(t.nbytes for t in levels[level]):
            continue
        parameters = [p for p in leaves if p in need[j]]
        seed = torch.full_like(losses[j], scale)
        found = torch.autograd.grad(losses[j], [*parameters, *levels[level]], seed, allow_unused=True)
        mine, left = found[: len(parameters)], found[len(parameters) :]
        for parameter, grad in zip(parameters, unshared(mine, left), strict=True):
            if grad is not None:
                accumulate(parameter, grad)
        settled.update(parameters)
        stand_ins[j] = _StandIn.apply(left, scale, losses[j].detach(), *levels[level])
    return stand_ins, settled


def _private(
    j: int, stages: Sequence[Walk], heads: Mapping[int, Walk], need: Sequence[Mapping[Tensor, None]]
) -> tuple[int, set[Any], list[Tensor]]:
    """The level that a loss reaches alone, and what lies above it; level -1 if there is none."""
    nodes, leaves = set(heads[j].nodes), list(heads[j].leaves)
    others = {i: max(head.stops, default=-1) for i, head in heads.items() if i != j}
    wanted_by_others = set[Tensor]().union(*(need[i] for i in others))
    level = max(heads[j].stops) if len(heads[j].stops) == 1 else -1
    first = level
    if not wanted_by_others.isdisjoint(leaves):
        return -1, nodes, leaves
    while level > max(others.values(), default=-1) and wanted_by_others.isdisjoint(stages[level].leaves):
        nodes |= stages[level].nodes
        leaves += stages[level].leaves
        level -= 1
    elsewhere = [*stages[: level + 1], *stages[first + 1 :], *(heads[i] for i in others)]
    if any(saves(node) for part in elsewhere for node in part.nodes & nodes):
        return -1, nodes, leaves  # another loss would find it freed
    return level, nodes, leaves


class _StandIn(torch.autograd.Function):
    """A loss whose gradient at some tensors is known."""

    @staticmethod
    def forward(
        ctx: Any, gradients: Sequence[Tensor | None], scale: float, value: Tensor, *tensors: Tensor
    ) -> Tensor:
        ctx.gradients, ctx.scale = gradients, scale
        return value.clone()

    @staticmethod
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        weight = factor / ctx.scale  # the gradients have the scale of fp16 already
        return None, None, None, *(None if g is None else g * weight for g in ctx.gradients)
