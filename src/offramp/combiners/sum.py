"""The plain sum of the losses, one backward pass (Deep Feature Surgery, Eq 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from offramp.objectives.step import Step

__all__ = ["backward_sum"]


def backward_sum(losses: Sequence[Tensor], step: Step, backward: Callable[[Tensor], None]) -> None:
    """Fill ``.grad`` with the gradient of the sum of the losses.

    Args:
        losses: K scalars.
        step: The step they come from.
        backward: What runs a backward pass from a scalar (it scales the loss under fp16).
    """
    backward(torch.stack(list(losses)).sum())
