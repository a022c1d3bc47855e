"""ELF: a sample that an exit gets right with confidence no longer trains the exits behind it.

Duggal, Freitas, Dhamnani, Chau, Sun, "ELF: An Early-Exiting Framework for Long-Tailed Classification", 2020,
arXiv:2006.11979. When a sample leaves, the threshold and the divisor are not established: the first is as the
paper is remembered, the others are our choice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from offramp.checks import number
from offramp.errors import UserError
from offramp.methods.objectives.objective import Objective
from offramp.methods.objectives.step import Step
from offramp.tasks.soft_targets import check_soft_targets
from offramp.tasks.task import wide

__all__ = ["EarlyLeaving"]


@dataclass(frozen=True, kw_only=True)
class EarlyLeaving(Objective):
    """Each exit learns the samples that no exit before it got right with confidence.

    A sample leaves at the first exit whose best class is the label, with a probability of ``threshold`` or
    more. Its loss is that of the exits up to that one: loss k is the sum over the samples that are still
    there, divided by the whole batch. Which samples leave has no gradient. All of them go through the net.

    Attributes:
        threshold: Above 1 no sample leaves, which is joint training; at 0 each does at its first right exit.

    Raises:
        UserError: A value out of its range.
    """

    whole_batch = ""
    threshold: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "threshold", "of 0 or more", lambda v: v >= 0)

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Step], list[Tensor]]:  # noqa: D102
        check_soft_targets(net.outputs.values(), "elf reads")  # type: ignore[operator]
        return self

    def __call__(self, step: Step) -> list[Tensor]:
        """Losses of a step.

        Raises:
            UserError: The targets are no labels, as where images are mixed.
        """
        labels = step.targets.get(step.tasks[0].target)
        if labels is not None and labels.is_floating_point():
            raise UserError(
                "elf asks whether an exit is right, and mixed images have no label to be right about; train "
                "without mixup and cutmix"
            )
        stays: Tensor | None = None
        losses = []
        for k in step.present:
            losses.append(step.loss(k, stays))
            if labels is None:  # another process or micro-batch has them
                continue
            with torch.no_grad():
                confidence, best = wide(step.outputs[k]).softmax(1).max(1)
                gone = (best == labels) & (confidence >= self.threshold)
                stays = (~gone).to(confidence) * (1 if stays is None else stays)
        return losses
