"""Losses of the outputs that have a target, lined up with all outputs of the net."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from offramp.methods.objectives.step import Step

__all__ = ["by_output"]


def by_output(losses: Sequence[Tensor], step: Step) -> list[Tensor]:
    """Put the losses at the places of their outputs: K scalars, that of an absent output without a graph.

    Args:
        losses: One scalar for each place in :attr:`Step.present`, in that order.
        step: The step they come from.

    Raises:
        ValueError: There is not one loss for each output that has a target.
    """
    present = step.present
    if len(losses) != len(present):
        raise ValueError(f"{len(losses)} losses for {len(present)} outputs with a target; give one for each")
    if len(present) == len(step.outputs):
        return list(losses)
    loss_of = dict(zip(present, losses, strict=True))
    return [loss_of[k] if k in loss_of else torch.zeros(()) for k in range(len(step.outputs))]
