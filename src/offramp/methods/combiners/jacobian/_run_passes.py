"""Runs the planned backward passes of a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from offramp.methods.combiners.jacobian._passes import BackwardPass
from offramp.methods.combiners.jacobian.exit_graph import levels_of

__all__ = ["in_own_memory", "run_passes"]


def run_passes(
    passes: Sequence[BackwardPass],
    losses: Sequence[Tensor],
    trunk: Sequence[Any] | None,
    *,
    scale: float,
    keep_graph: bool = False,
) -> Iterator[tuple[BackwardPass, list[Tensor | None]]]:
    """Run planned backward passes, and yield each with the gradients of its parameters.

    Every gradient is in memory of its own, so that it can be scaled and added to in place.

    Args:
        passes: From :func:`~offramp.methods.combiners.jacobian._passes.plan_passes`.
        losses: As planned.
        trunk: As planned.
        scale: Factor of the losses.
        keep_graph: Free nothing.
    """
    levels = levels_of(trunk)
    waiting: dict[tuple[int, int], Sequence[Tensor | None]] = {}
    for planned in passes:
        inputs = [*planned.parameters, *([] if planned.to_level is None else levels[planned.to_level])]
        outputs, seeds = [losses[planned.loss]], [torch.full_like(losses[planned.loss], scale)]
        if planned.from_level is not None:
            arrived = waiting.pop((planned.loss, planned.from_level))
            tensors = levels[planned.from_level]
            pairs = [(t, g) for t, g in zip(tensors, arrived, strict=True) if g is not None]
            outputs, seeds = [t for t, _ in pairs], [g for _, g in pairs]
            del arrived, pairs, tensors
        results: Sequence[Tensor | None] = [None] * len(inputs)
        if outputs:
            results = torch.autograd.grad(
                outputs, inputs, seeds, retain_graph=keep_graph or not planned.frees, allow_unused=True
            )
        del seeds
        mine = len(planned.parameters)
        if planned.to_level is not None:
            waiting[planned.loss, planned.to_level] = results[mine:]
        grads = in_own_memory(results[:mine], results[mine:])
        del results
        yield planned, grads
        del grads


def in_own_memory(
    grads: Sequence[Tensor | None], others: Sequence[Tensor | None] = ()
) -> list[Tensor | None]:
    """Gradients, copied where autograd gave several the same memory or a part of a larger one.

    Args:
        grads: What is to be in memory of its own.
        others: Gradients of the same pass that are in use elsewhere.
    """
    seen = {g.untyped_storage().data_ptr() for g in others if g is not None}
    own: list[Tensor | None] = []
    for g in grads:
        if g is not None:
            memory = g.untyped_storage()
            if memory.data_ptr() in seen or memory.nbytes() != g.nbytes:
                g = g.clone(memory_format=torch.contiguous_format)
            seen.add(memory.data_ptr())
        own.append(g)
    return own
