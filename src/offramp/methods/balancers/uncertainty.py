"""Uncertainty weighting: each loss is divided by a variance that is learned with the net.

Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and
Semantics", CVPR 2018, arXiv:1705.07115.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from offramp.checks import choice, number
from offramp.methods.balancers._sizes import PositiveLosses
from offramp.methods.balancers.balancer import Balancer
from offramp.methods.objectives.step import Step

__all__ = ["Uncertainty"]

FORMS = {"regression": 0.5, "classification": 1.0}


@dataclass(frozen=True, kw_only=True)
class Uncertainty(Balancer):
    """Weighs loss k as 1/2 exp(-s_k) L_k + 1/2 s_k, with a learned s_k = log sigma_k^2, at first 0.

    Where the losses stand still s_k goes to log L_k, and the weight to 1 / (2 L_k): the smallest loss, of
    exits usually the deepest one's, weighs most, and the sum descends 1/2 sum_k log L_k. It is not divided
    by K. At first the weights are 1/2, not 1. Any factor within L_k is undone; ``weights`` come on top.

    The s_k are trained by the recipe's optimiser without weight decay, at the recipe's learning rate or at
    ``log_variance_lr``, which follows the same schedule. Losses must be positive. As a loss goes to 0 its
    weight grows without bound, and the sum may be negative. The s_k of an output that is absent from a batch
    has the gradient 0 there.

    Attributes:
        form: ``regression``, as above, which public code takes for every loss; ``classification`` is the
            paper's for cross-entropy, exp(-s_k) L_k + 1/2 s_k, where s_k goes to log 2 L_k.
        log_variance_lr: Peak learning rate of the s_k; None: the recipe's.

    Raises:
        UserError: A value out of its range.
    """

    whole_batch = ""
    form: str = "regression"
    log_variance_lr: float | None = None

    def __post_init__(self) -> None:
        choice(self, "form", tuple(FORMS))
        if self.log_variance_lr is not None:
            number(self, "log_variance_lr", "above 0 and at most 1e30", lambda lr: 0 < lr <= 1e30)

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Sequence[Tensor], Step], list[Tensor]]:  # noqa: D102
        return BoundUncertainty(self, len(net.outputs))  # type: ignore[arg-type]


class BoundUncertainty(nn.Module):
    """Uncertainty weighting bound to a net; it holds the log variances s, ``[K]``."""

    def __init__(self, options: Uncertainty, outputs: int) -> None:
        super().__init__()
        self.factor = FORMS[options.form]
        self.log_variances = nn.Parameter(torch.zeros(outputs))
        self.optimizer_settings: dict[str, float] = {"weight_decay": 0.0}
        if options.log_variance_lr is not None:
            self.optimizer_settings["lr"] = options.log_variance_lr
        self.positive = PositiveLosses("uncertainty")

    def forward(self, losses: Sequence[Tensor], step: Step) -> list[Tensor]:
        """Weigh the losses by their learned variances.

        Raises:
            UserError: A loss of the first step is negative.
        """
        self.positive.check(losses, step)
        s = self.log_variances.unbind()
        return [
            self.factor * torch.exp(-s[k]) * loss + 0.5 * s[k]
            for k, loss in zip(step.present, losses, strict=True)
        ]
