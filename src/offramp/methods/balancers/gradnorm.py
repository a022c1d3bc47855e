"""GradNorm: weights under which the losses' gradients are of one size, longer for losses that lag behind.

Chen, Badrinarayanan, Lee, Rabinovich, "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep
Multitask Networks", ICML 2018, arXiv:1711.02257, Alg 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from offramp.checks import number
from offramp.errors import UserError
from offramp.methods.balancers._sizes import PositiveLosses, sizes_of
from offramp.methods.balancers.balancer import Balancer
from offramp.methods.objectives.step import Step
from offramp.methods.passes import EACH, Passes
from offramp.nets import Net
from offramp.own_adam import OwnAdam

__all__ = ["GradNorm"]

LEAST = 1e-3  # a weight below 0 would ascend its loss
SCALE = 1024.0  # factor of a gradient, so that it does not vanish in float16; a power of two rounds nothing


@dataclass(frozen=True, kw_only=True)
class GradNorm(Balancer):
    """Weighs loss k by w_k, which is learned; the weights add up to the number of losses.

    G_k = w_k |grad_W L_k| is to be mean(G) r_k^alpha, where r_k is the loss as a share of what it was at the
    first step, over the mean of these shares. A loss that is 0, as where no sample of a batch has its label,
    takes no part in the step. W is the last weight tensor that all losses reach: of a multi-exit net that of
    the first stage. The distance |G_k - mean(G) r_k^alpha| has the slope
    sign(G_k - mean(G) r_k^alpha) |grad_W L_k| in w_k, since its target is held constant; so no graph of a
    gradient is kept. The weights have an Adam of their own and move after each step.

    Attributes:
        alpha: How much longer the gradients of losses that lag behind shall be; 0: all of one length.
        weight_lr: Learning rate of the weights.

    Raises:
        UserError: A value out of its range.
    """

    needs = frozenset({"graph"})
    passes = Passes(0, EACH)
    alpha: float = 1.5
    weight_lr: float = 0.025

    def __post_init__(self) -> None:
        number(self, "alpha", "of 0 or more", lambda alpha: alpha >= 0)
        number(self, "weight_lr", "above 0", lambda lr: lr > 0)

    @property
    def whole_batch(self) -> str:  # noqa: D102
        return "gradnorm takes the norms of a whole batch's gradients"

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Sequence[Tensor], Step], list[Tensor]]:  # noqa: D102
        return BoundGradNorm(self, cast(Net, net))


class BoundGradNorm(nn.Module):
    """GradNorm bound to a net; it holds the weights and the first losses, ``[K]``, 0 before any.

    Raises:
        UserError: There is no weight tensor that all losses reach.
    """

    first: Tensor

    def __init__(self, options: GradNorm, net: Net) -> None:
        super().__init__()
        outputs = len(net.outputs)
        self.alpha = options.alpha
        self.weights = OwnAdam(torch.ones(outputs), options.weight_lr)
        self.register_buffer("first", torch.zeros(outputs))
        owners = net.owners()
        shared = [
            parameter
            for name, parameter in net.named_parameters()
            if parameter.dim() > 1 and parameter.requires_grad and len(owners.get(name, ())) == outputs
        ]
        if not shared:
            raise UserError(
                "gradnorm compares gradients of a weight tensor that all losses reach, and the net trains "
                "none; unfreeze one, or take a balancer that reads losses alone, e.g. dwa"
            )
        self.positive = PositiveLosses("gradnorm")
        self._compared = (shared[-1],)  # in a tuple, since it is no part of this module

    def forward(self, losses: Sequence[Tensor], step: Step) -> list[Tensor]:
        """Weigh the losses; then move the weights for the next step.

        Raises:
            UserError: A loss of the first step is negative.
        """
        self.positive.check(losses, step)
        sizes = sizes_of(losses, step).to(self.first)
        counts = sizes != 0
        weights = _share_out(self.weights.values[step.present], counts)
        weighted = [weight.to(loss) * loss for weight, loss in zip(weights, losses, strict=True)]
        if not step.trial:
            self._learn(weights, losses, sizes, step)
        return weighted

    def _learn(self, weights: Tensor, losses: Sequence[Tensor], sizes: Tensor, step: Step) -> None:
        """Move the weights by a batch; the weight of a loss that is 0 stays, and after an overflow all do."""
        present, counts = step.present, sizes != 0
        norms = torch.stack([self._gradient(loss, step).norm() for loss in losses]).to(weights)
        first = self.first[present]
        self.first[present] = first = torch.where((first > 0) | ~sizes.isfinite(), first, sizes)
        shares = torch.where(counts, sizes / first, 0)
        lengths = torch.where(counts, weights * norms, 0)
        number = counts.sum()
        wanted = (lengths.sum() / number) * (shares * number / shares.sum()) ** self.alpha
        slope = torch.sign(lengths - wanted) * norms
        self.weights.values[present] = weights
        moves = counts & (lengths.isfinite().all() & shares.isfinite().all())
        self.weights.descend(torch.where(moves, slope, torch.nan), present)
        self.weights.values[present] = _share_out(self.weights.values[present].clamp(min=LEAST), counts)

    def _gradient(self, loss: Tensor, step: Step) -> Tensor:
        parameter = self._compared[0]
        gradient = None
        if loss.requires_grad:
            scaled = SCALE * loss
            (gradient,) = torch.autograd.grad(scaled, [parameter], retain_graph=True, allow_unused=True)
        gradient = torch.zeros_like(parameter) if gradient is None else gradient / SCALE
        return gradient if step.average is None else step.average(gradient)


def _share_out(weights: Tensor, counts: Tensor) -> Tensor:
    """The weights that count, scaled so that they add up to their number; the others as they are."""
    total = torch.where(counts, weights, 0).sum()
    return torch.where(counts, weights * (counts.sum() / total), weights)
