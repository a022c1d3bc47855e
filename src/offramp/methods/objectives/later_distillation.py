"""Distillation of every exit into all exits before it.

The dense distillation of Wang and Li, "Harmonized Dense Knowledge Distillation Training for Multi-Exit
Architectures", AAAI 2021, with one fixed weight for all pairs, as the public code of Zero Time Waste
(Wolczyk et al., NeurIPS 2021) has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from offramp.checks import number
from offramp.methods.objectives.objective import Objective
from offramp.methods.objectives.step import Step
from offramp.tasks.soft_targets import check_soft_targets, soft_loss, soft_targets

__all__ = ["LaterDistillation"]


@dataclass(frozen=True, kw_only=True)
class LaterDistillation(Objective):
    """Each exit learns the labels and what every later exit says.

    With p^T the probabilities at temperature T, no gradient through teachers, and P = K (K - 1) / 2 pairs,
    loss k is

        CE_k + alpha T^2 / P sum_{j>k} H(p_j^T, p_k^T),      H(q, p) = -sum_c q_c log p_c.

    So the sum over the exits has the mean over the pairs, as published.

    Attributes:
        alpha: Weight of that mean.
        temperature: T; 1 as published.

    Raises:
        UserError: A value out of its range.
    """

    whole_batch = ""
    alpha: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "alpha", "of 0 or more", lambda v: v >= 0)
        number(self, "temperature", "above 0 and at most 1e6", lambda v: 0 < v <= 1e6)

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Step], list[Tensor]]:  # noqa: D102
        check_soft_targets(net.outputs.values())  # type: ignore[operator]
        return self

    def __call__(self, step: Step) -> list[Tensor]:  # noqa: D102
        count = len(step.outputs)
        targets = [soft_targets(output, self.temperature) for output in step.outputs]
        weight = self.alpha * self.temperature**2 / max(1, count * (count - 1) // 2)
        losses = []
        for k in step.present:
            loss = step.loss(k)
            soft = [soft_loss(step.outputs[k], later, self.temperature) for later in targets[k + 1 :]]
            losses.append(loss + weight * step.mean(torch.stack(soft).sum(0)) if soft else loss)
        return losses
