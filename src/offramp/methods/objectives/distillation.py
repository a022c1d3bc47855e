"""Distillation of the last exit into the others, with an annealed temperature.

Phuong, Lampert, "Distillation-Based Training for Multi-Exit Architectures", ICCV 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from offramp.checks import choice, is_number, number, switch
from offramp.distributed.collectives import mean
from offramp.errors import UserError, shown
from offramp.methods.objectives.objective import Objective
from offramp.methods.objectives.step import Step
from offramp.tasks.soft_targets import check_soft_targets, soft_loss, soft_targets

__all__ = ["Distillation"]

CONFIDENT = 0.5  # mean of the teacher's largest probability above which the temperature grows
GROWTH = 1.05


@dataclass(frozen=True, kw_only=True)
class Distillation(Objective):
    """Each exit learns the labels and, but for the last, what the last exit says.

    The published loss, with p^T the probabilities at temperature T and the teacher p_K without gradient, is

        s { (1 - C) sum_{k<=K} CE_k  +  C T^2 sum_{k<K} H(p_K^T, p_k^T) },     H(q, p) = -sum_c q_c log p_c.

    Loss k < K holds s (1-C) CE_k + s C T^2 H(p_K^T, p_k^T), loss K holds s (1-C) CE_K.

    The authors set s = 10/K for CIFAR, which acts like another learning rate. The default, s = 1, is the one
    to compare with joint training: the two terms of an exit then weigh 1 together, as its cross-entropy does
    there, and T^2 keeps the second's gradient at one scale as T grows. Exit K, which has no teacher, weighs
    1 - C.

    With ``anneal`` the temperature is multiplied by 1.05 after each batch on which the teacher's largest
    probability at that temperature exceeds 0.5 on average; it never falls. The authors also report
    a constant one: ``temperature=4, anneal=False``.

    Attributes:
        alpha: C, the share of the soft targets, in [0, 1); or a C_k for each exit, in place of C in its loss.
        taught: Which exits have a teacher: ``"all"`` but the last; the shallow ``"half"``, K // 2 of them; or
            ``"all-but-two"``, all but the last two. With these two the deeper exits, the last included, have
            s CE_k, the labels' loss at its whole weight.
        temperature: T, at the start if it is annealed.
        anneal: Whether the temperature grows.
        scale: s, or ``"10/K"``.

    Raises:
        UserError: A value out of its range.
    """

    whole_batch = ""
    alpha: float | Sequence[float] = 0.5
    taught: str = "all"
    temperature: float = 1.0
    anneal: bool = True
    scale: float | str = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        listed = isinstance(self.alpha, (list, tuple)) and self.alpha
        shares: Sequence[Any] = self.alpha if listed else [self.alpha]  # type: ignore[assignment]
        if not all(is_number(share) and 0 <= share < 1 for share in shares):
            raise UserError(
                f"alpha is {shown(self.alpha)}, must be a number from 0 to below 1, or one for each exit: "
                "the share of the teacher, of which the labels have the rest"
            )
        if isinstance(self.alpha, list):
            object.__setattr__(self, "alpha", tuple(self.alpha))
        choice(self, "taught", ("all", "half", "all-but-two"))
        if self.taught != "all" and isinstance(self.alpha, tuple):
            raise UserError("an alpha for each exit says which are taught; give `taught='all'` with it")
        number(self, "temperature", "above 0 and at most 1e6", lambda v: 0 < v <= 1e6)
        switch(self, "anneal")
        if self.scale != "10/K":
            number(self, "scale", "above 0, or '10/K' as published for CIFAR", lambda v: v > 0)

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Step], list[Tensor]]:  # noqa: D102
        exits = len(net.outputs)  # type: ignore[arg-type]
        if isinstance(self.alpha, tuple) and len(self.alpha) != exits:
            raise UserError(f"alpha has {len(self.alpha)} numbers, the net {exits} exits; give one for each")
        check_soft_targets(net.outputs.values())  # type: ignore[operator]
        return _Annealed(self) if self.anneal else self

    def __call__(self, step: Step) -> list[Tensor]:
        """Losses of a step at the temperature of the start."""
        return self.losses(step, soft_targets(step.outputs[-1], self.temperature), self.temperature)

    def losses(self, step: Step, targets: Tensor, temperature: float | Tensor) -> list[Tensor]:
        """The K losses of a step.

        Args:
            step: The step.
            targets: The teacher's probabilities at the temperature, ``[N, classes]``.
            temperature: T.
        """
        count = len(step.outputs)
        shares = self._shares(count)
        scale = 10 / count if isinstance(self.scale, str) else self.scale
        hard = [scale * (1 - shares[k]) * step.loss(k) for k in step.present]
        soft = [
            scale * share * temperature**2 * step.mean(soft_loss(z, targets, temperature))
            for share, z in zip(shares, step.outputs[:-1], strict=False)
        ]
        return [*(a + b for a, b in zip(hard, soft, strict=False)), hard[-1]]

    def _shares(self, count: int) -> Sequence[float]:
        """C_k of each of so many exits."""
        if isinstance(self.alpha, Sequence):
            return self.alpha
        taught = {"all": count, "half": count // 2, "all-but-two": max(count - 2, 0)}[self.taught]
        return [self.alpha if k < taught else 0.0 for k in range(count)]


class _Annealed(nn.Module):
    """Distillation with an annealed temperature, which it remembers."""

    temperature: Tensor

    def __init__(self, objective: Distillation) -> None:
        super().__init__()
        self.objective = objective
        self.register_buffer("temperature", torch.tensor(float(objective.temperature)))
        self.confidence: Tensor | float = 0.0  # of the batch, as far as its micro-batches have come

    def forward(self, step: Step) -> list[Tensor]:
        """The K losses of a step; in training mode the temperature may grow after the last micro-batch."""
        temperature = self.temperature.clone()  # the graph keeps it, the buffer changes in place
        targets = soft_targets(step.outputs[-1], temperature)
        losses = self.objective.losses(step, targets, temperature)
        if self.training:
            self.confidence = self.confidence + step.share * step.mean(targets.amax(1))
            if not step.more:
                confidence, self.confidence = mean(self.confidence), 0.0
                # no Python `if`: that would wait for the device at every step
                self.temperature.mul_(torch.where(confidence > CONFIDENT, GROWTH, 1.0))
        return losses
