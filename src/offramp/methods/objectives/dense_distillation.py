"""Dense distillation with learned weights (HDKD): every exit teaches all before it, as much as it helps.

Wang and Li, "Harmonized Dense Knowledge Distillation Training for Multi-Exit Architectures", AAAI 2021. There
is no public code; what the paper's summaries leave open is said to be our choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from offramp.checks import number
from offramp.methods.objectives.objective import Objective
from offramp.methods.objectives.step import Step
from offramp.methods.objectives.task_loss import sum_of_losses
from offramp.own_adam import OwnAdam
from offramp.tasks.soft_targets import check_soft_targets, soft_loss, soft_targets

__all__ = ["DenseDistillation"]


@dataclass(frozen=True, kw_only=True)
class DenseDistillation(Objective):
    """Loss k is gamma_k CE_k + sum_{j>k} gamma_kj KD_kj, with K + K (K - 1) / 2 learned weights gamma.

    KD_kj = T^2 H(p_j^T, p_k^T), with p^T the probabilities at temperature T, and no gradient through the
    teacher j. The weights descend the sum of all exits' cross-entropy on other samples, after a virtual step
    (:mod:`offramp.methods.loops.bilevel`). None goes below 0.

    Attributes:
        temperature: T; not established, 3 is our choice.
        label_start: gamma_k at first; the paper finds that the beginning does not matter.
        teacher_start: gamma_kj at first.
        weight_lr: Learning rate of the Adam that moves them; optimiser and rate are our choice.

    Raises:
        UserError: A value out of its range.
    """

    bilevel = True
    temperature: float = 3.0
    label_start: float = 1.0
    teacher_start: float = 0.1
    weight_lr: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "temperature", "above 0 and at most 1e6", lambda v: 0 < v <= 1e6)
        number(self, "weight_lr", "above 0", lambda lr: lr > 0)
        for name in ("label_start", "teacher_start"):
            number(self, name, "of 0 or more", lambda value: value >= 0)

    @property
    def whole_batch(self) -> str:  # noqa: D102
        return "hdkd moves its weights by the gradient of a whole batch"

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Step], list[Tensor]]:  # noqa: D102
        tasks = net.outputs.values()  # type: ignore[operator]
        check_soft_targets(tasks)
        return BoundDenseDistillation(self, len(tasks))


class BoundDenseDistillation(nn.Module):
    """HDKD bound to a net; it holds the weights: of K labels, then of the pairs (k, j), k < j, in order."""

    def __init__(self, options: DenseDistillation, count: int) -> None:
        super().__init__()
        self.temperature = options.temperature
        self.pairs = [(k, j) for k in range(count) for j in range(k + 1, count)]
        start = [options.label_start] * count + [options.teacher_start] * len(self.pairs)
        self.learned = OwnAdam(torch.tensor(start, dtype=torch.float32), options.weight_lr, least=0.0)

    def forward(self, step: Step) -> list[Tensor]:
        """The weighted losses of the exits; all exits have their target in common."""
        count, learned = len(step.outputs), self.learned.values
        targets = [soft_targets(output, self.temperature) for output in step.outputs]
        losses = [learned[k] * step.loss(k) for k in range(count)]
        for weight, (k, j) in zip(learned[count:], self.pairs, strict=True):
            taught = step.mean(soft_loss(step.outputs[k], targets[j], self.temperature))
            losses[k] = losses[k] + weight * self.temperature**2 * taught
        return losses

    def reached(self, step: Step) -> Sequence[int]:
        """All weights."""
        return range(len(self.learned.values))

    def outer(self, step: Step, factors: Sequence[float]) -> Tensor | None:
        """The sum of the exits' cross-entropy, each times its fixed factor."""
        return sum_of_losses(step, factors)
