"""Loss of each output by its own task: the objective of joint training (Deep Feature Surgery, Eq 3)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from offramp.methods.objectives.objective import Objective
from offramp.methods.objectives.step import Step

__all__ = ["TaskLoss"]


@dataclass(frozen=True, kw_only=True)
class TaskLoss(Objective):
    """One loss per output that has a target, each the batch mean by the output's task."""

    one_by_one = True
    whole_batch = ""

    def __call__(self, step: Step) -> list[Tensor]:  # noqa: D102
        return [step.loss(k) for k in step.present]
