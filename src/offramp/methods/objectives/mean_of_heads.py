"""The mean of the heads' losses instead of their sum, of heads on a frozen backbone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from offramp.methods.objectives.objective import Objective
from offramp.methods.objectives.step import Step

__all__ = ["MeanOfHeads"]


@dataclass(frozen=True, kw_only=True)
class MeanOfHeads(Objective):
    """Each head but the last has its task's loss, divided by their number; the last, frozen, is no head."""

    one_by_one = True
    whole_batch = ""

    def __call__(self, step: Step) -> list[Tensor]:  # noqa: D102
        heads = len(step.tasks) - 1
        return [step.loss(k) / heads if k < heads else step.loss(k) for k in step.present]
