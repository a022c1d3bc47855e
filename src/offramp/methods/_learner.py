"""What learns weights of losses in a bilevel loop: how the loop sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from offramp.methods.objectives.step import Step
from offramp.own_adam import OwnAdam

__all__ = ["Learner"]


class Learner(Protocol):
    """A balancer or an objective, bound to a net, whose weights of losses the bilevel loop trains."""

    learned: OwnAdam

    def reached(self, step: Step) -> Sequence[int]:
        """Indices of the learned numbers that the losses of a step depend on."""

    def outer(self, step: Step, factors: Sequence[float]) -> Tensor | None:
        """The loss that the weights shall bring down, and have no part in; None where nothing has a target.

        Args:
            step: A pass over other samples, after a virtual step.
            factors: The fixed factor of each output's loss, K of them.
        """
