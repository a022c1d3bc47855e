"""Per-channel gradient gains of a fork, one for each reader."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Gains"]


@dataclass(frozen=True)
class Gains:
    """Gradient gains of one fork; 1 and 1 everywhere is the plain fork.

    Attributes:
        head: Float64 ``[C]``, for the gradient that the head sends back.
        next: Float64 ``[C]``, for the gradient that the next stage sends back.
    """

    head: Tensor
    next: Tensor

    def __mul__(self, other: Gains) -> Gains:
        """Gains of two rules at one place."""
        return Gains(self.head * other.head, self.next * other.next)
