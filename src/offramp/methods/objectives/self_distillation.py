"""Self-distillation (BYOT): the last exit teaches the others its probabilities and its features.

Zhang et al., "Be Your Own Teacher: Improve the Performance of Convolutional Neural Networks via Self
Distillation", ICCV 2019; Zhang, Bao, Ma, "Self-Distillation: Towards Efficient and Compact Neural Networks",
TPAMI 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from offramp.checks import number
from offramp.methods.objectives._adaptation import Adaptation
from offramp.methods.objectives.objective import Objective
from offramp.methods.objectives.step import Step
from offramp.tasks.soft_targets import soft_loss, soft_targets

__all__ = ["SelfDistillation", "SelfDistillationICCV"]


@dataclass(frozen=True, kw_only=True)
class SelfDistillation(Objective):
    """Self-distillation by the recipe of the TPAMI paper's code and of Deep Feature Surgery's.

    With p^T the probabilities at temperature T, F_k what head k's last linear layer reads, and the teacher
    p_K, F_K without gradient, the published loss is

        CE_K + sum_{k<K} [ (1-g) CE_k  +  g H(p_K^T, p_k^T)  +  lam || A_k F_k - F_K || ],

    H(q, p) = -sum_c q_c log p_c. Loss k holds the k-th term of the sum, loss K holds CE_K. The soft targets
    come *without* the usual T^2. The norm is Euclidean, over the whole batch ``[N, D_K]``: it is neither
    squared nor averaged, so its gradient is as long at any distance, and its share of the step grows with the
    square root of the batch. A_k is a linear layer D_k -> D_K that is trained along and thrown away
    afterwards. (The TPAMI code leaves the norm out for one of its three middle exits, Deep Feature Surgery's
    for none; so here.)

    Attributes:
        alpha: g, the share of the soft targets, in [0, 1].
        lam: Weight of the features.
        temperature: T.

    Raises:
        UserError: A value out of its range.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    alpha: float = 0.3
    lam: float = 0.03
    temperature: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "alpha", "from 0 to 1", lambda v: 0 <= v <= 1)
        number(self, "lam", "0 or more", lambda v: v >= 0)
        number(self, "temperature", "above 0 and at most 1e6", lambda v: 0 < v <= 1e6)

    @property
    def whole_batch(self) -> str:
        """Why no batch can be cut into micro-batches: the norm over a batch is no mean over its samples."""
        return "lam weighs a norm over all samples of a batch, which `lam=0` leaves out" if self.lam else ""

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Step], list[Tensor]]:  # noqa: D102
        return Adaptation(self.losses, net, seed, always=True)

    def losses(self, step: Step, features: list[Tensor], target: Tensor) -> list[Tensor]:
        """The K losses of a step.

        Args:
            step: The step.
            features: A_k F_k, K-1 Tensors ``[N, D_K]``.
            target: F_K, ``[N, D_K]``, without gradient.
        """
        targets = soft_targets(step.outputs[-1], self.temperature)
        distances = _norms(step, [feature - target for feature in features])
        losses = []
        for k, distance in enumerate(distances):
            hard, soft = step.loss(k), step.mean(soft_loss(step.outputs[k], targets, self.temperature))
            losses.append((1 - self.alpha) * hard + self.alpha * soft + self.lam * distance)
        return [*losses, step.loss(len(losses))]


def _norms(step: Step, parts: list[Tensor]) -> list[Tensor]:
    """Euclidean norms over the batch, of which each process has a part.

    The mean over the processes of what this gives, and of its gradient, are the norm and the norm's gradient.
    """
    here = [torch.linalg.vector_norm(part) for part in parts]
    if step.average is None:
        return here
    own = torch.stack(here).detach()
    norms = (step.processes * step.average(own.square())).sqrt()
    # d norm = own d own / norm
    factors = step.processes * own / torch.where(norms > 0, norms, 1)
    return [factor * norm for factor, norm in zip(factors, here, strict=True)]


@dataclass(frozen=True, kw_only=True)
class SelfDistillationICCV(Objective):
    """Self-distillation by the public re-implementation of the ICCV paper, which prints no weights.

    With the symbols of :class:`SelfDistillation`, the loss is

        (1-a) sum_{k<=K} CE_k  +  a T^2 sum_{k<K} H(p_K^T, p_k^T)  +  b sum_{k<K} D_k,

    D_k = the sum, over batch and channels, of (F_k - F_K)^2 where either is above 0. Loss k < K holds its
    three terms, loss K holds (1-a) CE_K. D_k is a sum over the batch, not a mean, so its weight beside the
    other terms grows with the batch size. Features as long as the last exit's are compared as they are;
    others pass a linear layer D_k -> D_K first, which is trained along and thrown away afterwards.

    Attributes:
        alpha: a, the share of the soft targets, in [0, 1).
        lam: b, the weight of the features.
        temperature: T.

    Raises:
        UserError: A value out of its range.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    whole_batch = ""
    alpha: float = 0.1
    lam: float = 1e-6
    temperature: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "alpha", "from 0 to below 1: the last exit learns from the rest", lambda v: 0 <= v < 1)
        number(self, "lam", "0 or more", lambda v: v >= 0)
        number(self, "temperature", "above 0 and at most 1e6", lambda v: 0 < v <= 1e6)

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Step], list[Tensor]]:  # noqa: D102
        return Adaptation(self.losses, net, seed, always=False)

    def losses(self, step: Step, features: list[Tensor], target: Tensor) -> list[Tensor]:
        """The K losses of a step; arguments as in :meth:`SelfDistillation.losses`."""
        targets = soft_targets(step.outputs[-1], self.temperature)
        hard = [(1 - self.alpha) * step.loss(k) for k in step.present]
        losses = []
        for k, feature in enumerate(features):
            soft = step.mean(soft_loss(step.outputs[k], targets, self.temperature))
            active = (feature > 0) | (target > 0)
            distance = step.sum((feature - target).square() * active)
            losses.append(hard[k] + self.alpha * self.temperature**2 * soft + self.lam * distance)
        return [*losses, hard[-1]]
