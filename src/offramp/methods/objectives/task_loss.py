"""Loss of each output by its own task: the objective of joint training (Deep Feature Surgery, Eq 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from offramp.methods.objectives.objective import Objective
from offramp.methods.objectives.step import Step

__all__ = ["TaskLoss", "sum_of_losses"]


@dataclass(frozen=True, kw_only=True)
class TaskLoss(Objective):
    """One loss per output that has a target, each the batch mean by the output's task."""

    one_by_one = True
    whole_batch = ""

    def __call__(self, step: Step) -> list[Tensor]:  # noqa: D102
        return [step.loss(k) for k in step.present]


def sum_of_losses(step: Step, factors: Sequence[float]) -> Tensor | None:
    """Sum of the losses of the outputs that have a target, by their tasks; None where none counts.

    Args:
        step: The step.
        factors: What each output's loss is multiplied by, K of them; 0 leaves it out.
    """
    losses = [factors[k] * step.loss(k) for k in step.present if factors[k]]
    return torch.stack(losses).sum() if losses else None
