"""Samples on their way through a net: those that leave are taken out, the others are laid out anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

__all__ = ["Flow", "batched_leaves", "take"]


class Flow(NamedTuple):
    """What n samples carry from one step of a net to the next.

    Attributes:
        x: The feature, or the input.
        logits: The logits of the exit before, ``[n, classes]``; None before the first.
        state: What the confidence of the exit before has left for the next, ``[n, ...]``, or None.
    """

    x: Any
    logits: Tensor | None = None
    state: Tensor | None = None

    def take(self, rows: Tensor, batched: Sequence[bool]) -> Flow:
        """Keep some of the samples.

        Args:
            rows: Their places, int64.
            batched: Which leaves of the feature have a row for each sample; the others stay whole.
        """
        leaves, form = pytree.tree_flatten(self.x)
        taken = [take(leaf, rows) if has else leaf for leaf, has in zip(leaves, batched, strict=True)]
        logits = None if self.logits is None else take(self.logits, rows)
        state = None if self.state is None else take(self.state, rows)
        return Flow(pytree.tree_unflatten(taken, form), logits, state)


def batched_leaves(features: Sequence[Any], sizes: Sequence[int]) -> list[bool]:
    """Which leaves of a feature have a row for each sample, and which belong to the whole batch.

    Args:
        features: The feature for batches of different sizes.
        sizes: These sizes.
    """
    leaves = zip(*(pytree.tree_leaves(feature) for feature in features), strict=True)
    return [
        all(isinstance(leaf, Tensor) and leaf.shape[:1] == (n,) for leaf, n in zip(each, sizes, strict=True))
        for each in leaves
    ]


def take(x: Tensor, rows: Tensor) -> Tensor:
    """Rows of a Tensor ``[N, ...]`` in the memory format it has.

    Along the slowest axis of memory a row is one block, which is copied as such: on a CPU three times as fast
    as ``x[rows]`` of a channels-last Tensor.
    """
    order = sorted(range(x.ndim), key=lambda axis: -x.stride()[axis])  # stable
    if order[0] != 0:
        return x[rows]
    back = [order.index(axis) for axis in range(x.ndim)]
    return torch.index_select(x.permute(order), 0, rows).permute(back)
