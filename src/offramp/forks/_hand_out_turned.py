"""Hand a feature out to heads that read it through rotations of their own (RotoGrad, ICLR 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from offramp.autograd import Function
from offramp.forks._foldable import Fold
from offramp.forks._rotations import Rotations, turned

__all__ = ["HandOutTurned"]


class HandOutTurned:
    """Hands every head the feature through its rotation, and the next stage the feature itself.

    Args:
        rotations: One for each head.
        axis: The axis of the channels.
        consumers: How many there are: the heads, and perhaps the next stage.
        folds: For each head, how its layers take its rotation over.
    """

    def __init__(
        self, rotations: Rotations, axis: int, consumers: int, folds: Sequence[Sequence[Fold]]
    ) -> None:
        self.rotations, self.axis, self.consumers, self.folds = rotations, axis, consumers, folds

    def __call__(self, x: Tensor) -> list[Tensor]:
        """The Tensor for each consumer."""
        if torch.is_grad_enabled() and x.requires_grad:
            return list(_Turn.apply(x, self.rotations, self.axis, self.consumers))
        return self.values(x)

    def values(self, x: Tensor) -> list[Tensor]:
        """The Tensor for each consumer, whose gradients come back as they are."""
        heads = [turned(x, matrix, self.axis) for matrix in self.rotations.matrices]
        return [*heads, *[x] * (self.consumers - len(heads))]

    def fold(self) -> None:
        """Put the rotations into the layers that read the feature, and are to read it plain from here on."""
        for matrix, folds in zip(self.rotations.matrices, self.folds, strict=True):
            for fold in folds:
                fold(matrix)

    def __repr__(self) -> str:
        return f"rotated, axis {self.axis}"


class _Turn(Function):
    """The rotations, whose gradient is not the sum of what comes back but what RotoGrad makes of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rotations: Rotations, axis: int, consumers: int) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.rotations, ctx.axis = rotations, axis
        heads = [turned(x, matrix, axis) for matrix in rotations.matrices]
        return *heads, *(x.view_as(x) for _ in range(consumers - len(heads)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *sent: Tensor | None) -> tuple[Any, ...]:
        if all(gradient is None for gradient in sent):
            return None, None, None, None
        return ctx.rotations.gradient(sent, ctx.axis), None, None, None
