"""One-for-all distillation: the frozen net's own last exit teaches all new ones but the last.

Li et al., "Improved Techniques for Training Adaptive Deep Networks", ICCV 2019, arXiv:1908.06294, and its
public code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from offramp.checks import choice, number
from offramp.errors import UserError
from offramp.methods.objectives.objective import Objective
from offramp.methods.objectives.step import Step
from offramp.nets.collaborative_heads import LastCollaborativeHead
from offramp.tasks.soft_targets import check_soft_targets, divergence, soft_targets

__all__ = ["OneForAll"]

REDUCTIONS = {"batchmean": "batchmean", "official": "mean"}


@dataclass(frozen=True, kw_only=True)
class OneForAll(Objective):
    """Each new exit but the last learns mostly what the last exit of the frozen net says.

    With p^T the probabilities at temperature T and t those of the frozen net's last exit, the loss is

        CE_K + sum_{k<K} [ (1 - gamma) CE_k + gamma T^2 KL(t^T || p_k^T) ].

    Loss k holds the k-th term of the sum, loss K holds CE_K.

    Attributes:
        alpha: gamma, the share of the soft targets, from 0 to 1.
        temperature: T.
        kd_reduction: ``"batchmean"``, the formula, whose KL is summed over the classes; or ``"official"``,
            the public code, where PyTorch's KLDivLoss averages over the C classes too: C times less of it.

    Raises:
        UserError: A value out of its range.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    whole_batch = ""
    alpha: float = 0.9
    temperature: float = 3.0
    kd_reduction: str = "batchmean"

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "alpha", "from 0 to 1", lambda v: 0 <= v <= 1)
        number(self, "temperature", "above 0 and at most 1e6", lambda v: 0 < v <= 1e6)
        choice(self, "kd_reduction", tuple(REDUCTIONS))

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Step], list[Tensor]]:  # noqa: D102
        check_soft_targets(net.outputs.values())  # type: ignore[operator]
        if not isinstance(net.heads[-1], LastCollaborativeHead):  # type: ignore[index]
            raise UserError("OneForAll teaches heads of InlineCollaboration; give a method both parts")
        return self

    def __call__(self, step: Step) -> list[Tensor]:  # noqa: D102
        assert step.features is not None
        teacher = step.net.heads[-1].teacher(step.features[-1])  # type: ignore[index, union-attr]
        targets = soft_targets(teacher, self.temperature)
        reduction, weight = REDUCTIONS[self.kd_reduction], self.alpha * self.temperature**2
        losses = []
        for k in step.present:
            loss = step.loss(k)
            if k < len(step.tasks) - 1:
                soft = step.mean(divergence(step.outputs[k], targets, self.temperature, reduction))
                loss = (1 - self.alpha) * loss + weight * soft
            losses.append(loss)
        return losses
