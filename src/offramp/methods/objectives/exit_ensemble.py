"""Exit-ensemble distillation: every exit, the last one too, learns from the mean of all exits.

Lee and Lee, "Students are the Best Teacher: Exit-Ensemble Distillation with Multi-Exits", 2021,
arXiv:2104.00299, and its public code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from offramp.checks import choice, number
from offramp.methods.objectives._adaptation import Adaptation
from offramp.methods.objectives.objective import Objective
from offramp.methods.objectives.step import Step
from offramp.tasks.soft_targets import soft_loss, soft_targets
from offramp.tasks.task import wide

__all__ = ["ExitEnsembleDistillation"]


@dataclass(frozen=True, kw_only=True)
class ExitEnsembleDistillation(Objective):
    """Each exit learns the labels, and the mean of all exits' logits and features.

    With z the mean of the logits, f that of the adapted features A_k F_k, both without gradient, loss k is

        CE_k + alpha D(z_k, z) + lam E_k.

    E_k is the mean, over batch and channels, of (A_k F_k - f)^2 where either is above 0. D is the mean
    squared error over batch and classes; or T^2 H(p^T, p_k^T), p the probabilities of z. F_k is what head k's
    last linear layer reads; one as long as the last exit's is compared as it is, others pass a linear layer
    first, which is trained along and thrown away afterwards.

    Attributes:
        distance: D: ``"mse"``, the public code's default, or ``"cross-entropy"``, its option.
        alpha: Weight of D; None: that of the public code, 1 for ``mse`` and 0.1 for ``cross-entropy``.
        lam: Weight of the features; 0 compares logits alone.
        temperature: T, of ``cross-entropy``.

    Raises:
        UserError: A value out of its range.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    whole_batch = ""
    distance: str = "mse"
    alpha: float | None = None
    lam: float = 1.0
    temperature: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self, "distance", ("mse", "cross-entropy"))
        if self.alpha is not None:
            number(self, "alpha", "of 0 or more", lambda v: v >= 0)
        number(self, "lam", "of 0 or more", lambda v: v >= 0)
        number(self, "temperature", "above 0 and at most 1e6", lambda v: 0 < v <= 1e6)

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Step], list[Tensor]]:  # noqa: D102
        return Adaptation(self.losses, net, seed, always=False)

    def losses(self, step: Step, features: list[Tensor], target: Tensor) -> list[Tensor]:
        """The K losses of a step.

        Args:
            step: The step.
            features: A_k F_k, K-1 Tensors ``[N, D_K]``.
            target: F_K, ``[N, D_K]``, without gradient.
        """
        assert step.features is not None
        features = [*features, wide(step.features[-1])]  # the last exit is a student too
        logits = [wide(output) for output in step.outputs]
        mean_logits = torch.stack(logits).mean(0).detach()
        mean_feature = torch.stack(features).mean(0).detach()
        losses = []
        for k in step.present:
            loss = step.loss(k) + self._weight * step.mean(self._distances(logits[k], mean_logits))
            if self.lam:
                active = (features[k] > 0) | (mean_feature > 0)
                apart = (features[k] - mean_feature).square() * active
                loss = loss + self.lam * step.mean(apart.mean(1))
            losses.append(loss)
        return losses

    @property
    def _weight(self) -> float:
        if self.distance == "mse":
            return 1.0 if self.alpha is None else self.alpha
        return (0.1 if self.alpha is None else self.alpha) * self.temperature**2

    def _distances(self, logits: Tensor, mean: Tensor) -> Tensor:
        """How far each sample's logits are from the mean of all exits', ``[N]``."""
        if self.distance == "mse":
            return (logits - mean).square().mean(1)
        return soft_loss(logits, soft_targets(mean, self.temperature), self.temperature)
