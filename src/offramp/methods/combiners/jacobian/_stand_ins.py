"""Gradients of what one loss has to itself, filled before those of what it shares.

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

from offramp.autograd import Function
from offramp.methods.combiners.jacobian._cuts import saved_bytes
from offramp.methods.combiners.jacobian._run_passes import in_own_memory
from offramp.methods.combiners.jacobian.exit_graph import Region, exit_graph_of, saves
from offramp.methods.combiners.jacobian.row_block import accumulate

__all__ = ["fill_private_gradients"]


def fill_private_gradients(
    losses: Sequence[Tensor],
    trunk: Sequence[Any] | None,
    need: Sequence[Mapping[Tensor, None]],
    scale: float,
) -> tuple[list[Tensor], set[Tensor]]:
    """Fill ``.grad`` of what one loss has to itself, where that frees more memory than the stand-in takes.

    Args:
        losses: K scalars.
        trunk: The features between the stages.
        need: For each loss the parameters that it reaches.
        scale: Factor of the losses.

    Returns:
        The losses, or what stands in for them: scalars of the same value and gradients. And the parameters
        that have theirs.
    """
    live, levels, stages, heads, separable = exit_graph_of(losses, trunk, need)
    stand_ins, filled = list(losses), set[Tensor]()
    if not separable:
        return stand_ins, filled
    for j in live:
        region = _private_region(j, stages, heads, need)
        if region is None:
            continue
        (level,) = region.stops
        tensors = levels[level]
        if sum(saved_bytes(node) for node in region.nodes if saves(node)) < sum(t.nbytes for t in tensors):
            continue
        parameters = [p for p in region.leaves if p in need[j]]
        seed = torch.full_like(losses[j], scale)
        grads = torch.autograd.grad(losses[j], [*parameters, *tensors], seed, allow_unused=True)
        mine, waiting = grads[: len(parameters)], grads[len(parameters) :]
        for parameter, grad in zip(parameters, in_own_memory(mine, waiting), strict=True):
            if grad is not None:
                accumulate(parameter, grad)
        filled.update(parameters)
        known = [(t, g) for t, g in zip(tensors, waiting, strict=True) if g is not None]
        with torch.enable_grad():
            stand_ins[j] = _StandIn.apply(
                losses[j].detach(), scale, [g for _, g in known], *(t for t, _ in known)
            )
    return stand_ins, filled


def _private_region(
    j: int, stages: Sequence[Region], heads: Mapping[int, Region], need: Sequence[Mapping[Tensor, None]]
) -> Region | None:
    """Region of one loss alone, down to the level where others join; None if there is no such level."""
    others = {i: head for i, head in heads.items() if i != j}
    joined = max((max(head.stops, default=-1) for head in others.values()), default=-1)
    wanted = set[Tensor]().union(*(need[i] for i in others))
    if len(heads[j].stops) != 1 or not wanted.isdisjoint(heads[j].leaves):
        return None
    (entry,) = heads[j].stops
    level = entry
    while level > joined and wanted.isdisjoint(stages[level].leaves):
        level -= 1
    alone, below = [heads[j], *stages[level + 1 : entry + 1]], stages[: level + 1]
    nodes = set[Any]().union(*(part.nodes for part in alone))
    leaves = dict.fromkeys(p for part in alone for p in part.leaves)
    if level < 0 or any(p in leaves for stage in below for p in stage.leaves):
        return None
    elsewhere = [*below, *stages[entry + 1 :], *others.values()]
    if any(saves(node) for part in elsewhere for node in part.nodes & nodes):
        return None  # another loss would find it freed
    return Region(nodes, list(leaves), {level})


class _StandIn(Function):
    """Autograd function of a loss whose gradients at some tensors are known."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, scale: float, gradients: Sequence[Tensor], *_: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)
        ctx.scale = scale
        return value.clone()

    @staticmethod
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        weight = factor / ctx.scale  # the gradients have the scale of fp16 already
        return None, None, None, *(g * weight for g in ctx.saved_tensors)
