"""IMTL-L: each loss times a learned scale, so that all weighted losses are of one size.

Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang, "Towards Impartial Multi-Task Learning", ICLR 2021, Sec 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from offramp.checks import number
from offramp.methods.balancers._sizes import PositiveLosses
from offramp.methods.balancers.balancer import Balancer
from offramp.methods.objectives.step import Step

__all__ = ["IMTLL"]


@dataclass(frozen=True, kw_only=True)
class IMTLL(Balancer):
    """Weighs loss k as exp(s_k) L_k - s_k, with a learned logarithm s_k of its scale, at first 0.

    Where the losses stand still s_k goes to -log L_k, so that every weighted loss is 1. It is twice
    uncertainty weighting at -s_k, so that it begins with weights of 1. With the combiner ``imtl`` it is the
    hybrid of the paper: equal projections of the gradients of the weighted losses.

    The s_k are trained by the recipe's optimiser without weight decay, at the recipe's learning rate or at
    ``log_scale_lr``, which follows the same schedule. Losses must be positive; as one goes to 0 its weight
    grows without bound, and the sum may be negative. The s_k of an output that is absent from a batch has the
    gradient 0 there.

    Attributes:
        log_scale_lr: Peak learning rate of the s_k; None: the recipe's.

    Raises:
        UserError: A value out of its range.
    """

    whole_batch = ""
    log_scale_lr: float | None = None

    def __post_init__(self) -> None:
        if self.log_scale_lr is not None:
            number(self, "log_scale_lr", "above 0 and at most 1e30", lambda lr: 0 < lr <= 1e30)

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Sequence[Tensor], Step], list[Tensor]]:  # noqa: D102
        return BoundIMTLL(self, len(net.outputs))  # type: ignore[arg-type]


class BoundIMTLL(nn.Module):
    """IMTL-L bound to a net; it holds the logarithms of the scales s, ``[K]``."""

    def __init__(self, options: IMTLL, outputs: int) -> None:
        super().__init__()
        self.log_scales = nn.Parameter(torch.zeros(outputs))
        self.optimizer_settings: dict[str, float] = {"weight_decay": 0.0}
        if options.log_scale_lr is not None:
            self.optimizer_settings["lr"] = options.log_scale_lr
        self.positive = PositiveLosses("imtl-l")

    def forward(self, losses: Sequence[Tensor], step: Step) -> list[Tensor]:
        """Weigh the losses by their learned scales.

        Raises:
            UserError: A loss of the first step is negative.
        """
        self.positive.check(losses, step)
        s = self.log_scales.unbind()
        return [torch.exp(s[k]) * loss - s[k] for k, loss in zip(step.present, losses, strict=True)]
