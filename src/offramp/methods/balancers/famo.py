"""FAMO: all losses fall at about one rate, by how much the last step changed each of them.

Liu, Feng, Stone, Liu, "FAMO: Fast Adaptive Multitask Optimization", NeurIPS 2023, arXiv:2306.03792, Alg 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from offramp.checks import choice, number
from offramp.methods.balancers._sizes import PositiveLosses, sizes_of
from offramp.methods.balancers.balancer import Balancer
from offramp.methods.objectives.step import Step
from offramp.methods.passes import Passes
from offramp.own_adam import OwnAdam

__all__ = ["FAMO"]

EPS = 1e-8


@dataclass(frozen=True, kw_only=True)
class FAMO(Balancer):
    """Weighs loss k by c z_k / L_k, with z = softmax(xi) and a factor c that keeps the sum of the weights.

    After the optimiser's step the losses of the batch are taken once more, with the batch's statistics, the
    draws of dropout, the running statistics and the objective's memory of the step itself; then an Adam moves
    the logits xi towards the losses whose logarithm fell least. Losses must be positive; one that is 0, as
    where no sample of a batch has its label, takes no part in the step.

    Attributes:
        logit_lr: Learning rate of the logits.
        logit_decay: Weight decay of the logits: 0.001 in the authors' scripts for NYUv2, CelebA and QM9.
        scaling: ``sum``: the weights add up to the number of losses, as joint training's do; ``native``: to
            1, as in the paper.

    Raises:
        UserError: A value out of its range.
    """

    looks_back = True
    passes = Passes(1, 0)
    logit_lr: float = 0.025
    logit_decay: float = 1e-3
    scaling: str = "sum"

    def __post_init__(self) -> None:
        number(self, "logit_lr", "above 0", lambda lr: lr > 0)
        number(self, "logit_decay", "of 0 or more", lambda decay: decay >= 0)
        choice(self, "scaling", ("sum", "native"))

    @property
    def whole_batch(self) -> str:  # noqa: D102
        return "famo weighs the losses of a batch by their size"

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Sequence[Tensor], Step], list[Tensor]]:  # noqa: D102
        return BoundFAMO(self, len(net.outputs))  # type: ignore[arg-type]


class BoundFAMO(nn.Module):
    """FAMO bound to a net; it holds the logits xi, ``[K]``."""

    def __init__(self, options: FAMO, outputs: int) -> None:
        super().__init__()
        self.scaling = options.scaling
        self.logits = OwnAdam(torch.zeros(outputs), options.logit_lr, options.logit_decay)
        self.before: Tensor | None = None
        self.positive = PositiveLosses("famo")

    def forward(self, losses: Sequence[Tensor], step: Step) -> list[Tensor]:
        """Weigh the losses.

        Raises:
            UserError: A loss of the first step is negative.
        """
        self.positive.check(losses, step)
        sizes = sizes_of(losses, step)
        if not step.trial:
            self.before = sizes
        counts = sizes != 0
        weights = torch.where(counts, self._shares(counts, step) / (sizes + EPS), 0)
        weights = weights / weights.sum()
        factor = counts.sum() if self.scaling == "sum" else 1
        weights = torch.where(counts, factor * weights, 1)
        return [weight * loss for weight, loss in zip(weights, losses, strict=True)]

    def look_back(self, losses: Sequence[Tensor], step: Step) -> None:
        """Move the logits by what the optimiser's step did to the losses of its batch."""
        assert self.before is not None
        before, after = self.before, sizes_of(losses, step)
        counts = (before != 0) & (after != 0)
        fell = torch.where(counts, (before + EPS).log() - (after + EPS).log(), 0)
        shares = self._shares(counts, step)
        gradient = shares * (fell - (shares * fell).sum())
        self.logits.descend(torch.where(counts, gradient, torch.nan), step.present)

    def _shares(self, counts: Tensor, step: Step) -> Tensor:
        logits = self.logits.values[step.present]
        return torch.where(counts, logits, -torch.inf).softmax(0)
