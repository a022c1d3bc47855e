"""Runs planned passes; each gradient comes in memory of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from offramp.methods.combiners.jacobian.graph import levels_of
from offramp.methods.combiners.jacobian.passes import Pass

__all__ = ["run_passes", "unshared"]


def run_passes(
    passes: Sequence[Pass],
    losses: Sequence[Tensor],
    trunk: Sequence[Any] | None,
    *,
    scale: float,
    keep_graph: bool = False,
) -> Iterator[tuple[Pass, list[Tensor | None]]]:
    """Run planned passes; yields each with the gradients of its parameters, each in memory of its own.

    Args:
        passes: From :func:`~offramp.methods.combiners.jacobian.passes.plan_passes`.
        losses: As planned.
        trunk: As planned.
        scale: Factor of the losses.
        keep_graph: Free nothing.
    """
    levels = levels_of(trunk)
    waiting: dict[tuple[int, int], Sequence[Tensor | None]] = {}
    for one in passes:
        inputs = [*one.parameters, *([] if one.into is None else levels[one.into])]
        outputs, seeds = [losses[one.loss]], [torch.full_like(losses[one.loss], scale)]
        if one.start is not None:
            arrived = waiting.pop((one.loss, one.start))
            pairs = [(t, g) for t, g in zip(levels[one.start], arrived, strict=True) if g is not None]
            outputs, seeds = [t for t, _ in pairs], [g for _, g in pairs]
            del arrived, pairs
        found: Sequence[Tensor | None] = [None] * len(inputs)
        if outputs:
            found = torch.autograd.grad(
                outputs, inputs, seeds, retain_graph=keep_graph or not one.free, allow_unused=True
            )
        del seeds
        mine = len(one.parameters)
        if one.into is not None:
            waiting[one.loss, one.into] = found[mine:]
        grads = unshared(found[:mine], found[mine:])
        del found
        yield one, grads
        del grads


def unshared(grads: Sequence[Tensor | None], others: Sequence[Tensor | None] = ()) -> list[Tensor | None]:
    """The gradients, copied where autograd gave several the same memory or a part of a larger one."""
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
