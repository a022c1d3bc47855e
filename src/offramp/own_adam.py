"""Adam over the few numbers that a part of a method learns, apart from the net's optimiser.

Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015. Each entry counts its own steps, since
the output that it belongs to may be absent from some batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["OwnAdam"]

BETAS = 0.9, 0.999
EPS = 1e-8


class OwnAdam(nn.Module):
    """Numbers that an Adam of their own trains; all of its state is in buffers.

    Args:
        start: The numbers at first, ``[K, ...]``: K entries of one or more numbers.
        lr: Learning rate.
        weight_decay: What is added to the gradient for each unit of a number, as ``torch.optim.Adam`` has it.
        lr_decay: What each step of an entry multiplies its learning rate by.
        least: What no number goes below; None: there are no bounds.

    Attributes:
        values: The numbers, ``[K, ...]``.
    """

    values: Tensor
    moments: Tensor
    steps: Tensor

    def __init__(
        self,
        start: Tensor,
        lr: float,
        weight_decay: float = 0.0,
        *,
        lr_decay: float = 1.0,
        least: float | None = None,
    ) -> None:
        super().__init__()
        self.lr, self.weight_decay, self.lr_decay, self.least = lr, weight_decay, lr_decay, least
        self.register_buffer("values", start)
        self.register_buffer("moments", start.new_zeros(2, *start.shape))
        self.register_buffer("steps", start.new_zeros(len(start)))

    def descend(self, gradient: Tensor, index: Sequence[int]) -> None:
        """Take a step for some of the entries.

        Args:
            gradient: One for each of these entries. An entry whose gradient is not finite stays as it is.
            index: Which ones.
        """
        values, steps = self.values[index], self.steps[index]
        gradient = gradient.to(values)
        each = (len(values), *(1 for _ in values.shape[1:]))
        moves = gradient.isfinite().flatten(1).all(1) if values.dim() > 1 else gradient.isfinite()
        moving = moves.reshape(each)
        gradient = torch.where(moving, gradient, 0) + self.weight_decay * values
        lr = (self.lr * self.lr_decay**steps).reshape(each)
        self.steps[index] = steps = steps + moves
        corrected = []
        for moment, beta, now in zip(self.moments, BETAS, (gradient, gradient**2), strict=True):
            moved = torch.where(moving, beta * moment[index] + (1 - beta) * now, moment[index])
            moment[index] = moved
            corrected.append(moved / (1 - beta**steps).reshape(each))
        mean, square = corrected
        moved = values - lr * mean / (square.sqrt() + EPS)
        moved = moved if self.least is None else moved.clamp(min=self.least)
        self.values[index] = torch.where(moving, moved, values)

    @contextmanager
    def differentiated(self) -> Iterator[Tensor]:
        """Have what is computed with the numbers meanwhile depend on a leaf of autograd, which is yielded."""
        kept, self.values = self.values, self.values.clone().requires_grad_()
        try:
            yield self.values
        finally:
            self.values = kept
