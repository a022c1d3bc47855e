"""Losses weighted by the chance that a sample is still there: heads learn what will reach them.

The cascade-aligned losses of BoostNet and CalexNet, in the soft form of their summaries. The width of the
soft step and the scale of the weights are not established: the defaults here are our choice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from offramp.checks import number
from offramp.methods.objectives.objective import Objective
from offramp.methods.objectives.step import Step
from offramp.tasks.soft_targets import check_soft_targets
from offramp.tasks.task import wide

__all__ = ["Survivors"]


@dataclass(frozen=True, kw_only=True)
class Survivors(Objective):
    """Each exit learns most from the samples that are likely to reach it.

    With c_j the largest probability of exit j and s the logistic function, a sample weighs at exit k

        w_k = prod_{j<k} (1 - s((c_j - threshold) / softness)),

    divided by the mean over the batch's samples with a target, and without gradient. So each loss keeps its
    scale; to tell whether it helps, look at accuracy under a budget: that of an exit over all samples may
    fall.

    Attributes:
        threshold: Confidence at which a sample leaves half of the time, from 0 to 1.
        softness: Width of the step from staying to leaving.

    Raises:
        UserError: A value out of its range.
    """

    threshold: float = 0.9
    softness: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "threshold", "from 0 to 1, a confidence", lambda v: 0 <= v <= 1)
        number(self, "softness", "above 0", lambda v: v > 0)

    @property
    def whole_batch(self) -> str:  # noqa: D102
        return "survivors divides the weights of samples by their mean over a batch"

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Step], list[Tensor]]:  # noqa: D102
        check_soft_targets(net.outputs.values(), "survivors reads")  # type: ignore[operator]
        return self

    def __call__(self, step: Step) -> list[Tensor]:  # noqa: D102
        reach: Tensor | None = None
        losses = []
        for k in step.present:
            losses.append(step.loss(k, None if reach is None else reach / _mean(reach, step, k)))
            with torch.no_grad():
                confidence = wide(step.outputs[k]).softmax(1).amax(1)
                stay = torch.sigmoid((self.threshold - confidence) / self.softness)
                reach = stay if reach is None else reach * stay
        return losses


def _mean(values: Tensor, step: Step, k: int) -> Tensor:
    """Mean over the samples that count for an output, of all processes; above 0, so that one can divide."""
    here = step.tasks[k].target in step.targets
    counts = step.weights(k).to(values) if here else torch.zeros_like(values)
    sums = torch.stack([step.mean(counts * values), step.mean(counts)])
    of_all, number = sums if step.average is None else step.average(sums)
    mean: Tensor = of_all / torch.where(number > 0, number, 1)
    return mean.clamp(min=1e-30)
