"""Sizes of losses, for balancers that divide by them or take their logarithm."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from offramp.errors import UserError
from offramp.methods.objectives.step import Step

__all__ = ["PositiveLosses", "sizes_of"]


def sizes_of(losses: Sequence[Tensor], step: Step) -> Tensor:
    """The losses of all processes together, ``[K]``, without gradient.

    Args:
        losses: One for each output that has a target, in order.
        step: The step they come from.
    """
    sizes = torch.stack([loss.detach() for loss in losses])
    return sizes if step.average is None else step.average(sizes)


class PositiveLosses:
    """Refuses negative losses, at the first step alone: to read a value waits for the device.

    Args:
        balancer: What messages call the balancer.
    """

    def __init__(self, balancer: str) -> None:
        self.balancer, self.checked = balancer, False

    def check(self, losses: Sequence[Tensor], step: Step) -> None:
        """Check the losses of a step, if it is the first.

        Args:
            losses: One for each output that has a target, in order.
            step: The step they come from.

        Raises:
            UserError: A loss is negative.
        """
        if self.checked:
            return
        self.checked = True
        for k, value in zip(step.present, torch.stack(list(losses)).tolist(), strict=True):
            if value < 0:
                raise UserError(
                    f"{self.balancer} divides each loss by its size, and loss {k + 1} is {value:.3g}; "
                    "take an objective whose losses are positive"
                )
