"""Losses that a balancer takes the logarithm of, or divides by."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from offramp.errors import UserError
from offramp.methods.objectives.step import Step

__all__ = ["check_positive"]


def check_positive(balancer: str, losses: Sequence[Tensor], step: Step) -> None:
    """Check that no loss of a step is negative; it waits for the device.

    Args:
        balancer: What messages call the balancer.
        losses: One for each output that has a target, in order.
        step: The step they come from.

    Raises:
        UserError: A loss is negative.
    """
    for k, value in zip(step.present, torch.stack(list(losses)).tolist(), strict=True):
        if value < 0:
            raise UserError(
                f"{balancer} divides each loss by its size, and loss {k + 1} is {value:.3g}; "
                "take an objective whose losses are positive"
            )
