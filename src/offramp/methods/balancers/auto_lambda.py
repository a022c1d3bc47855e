"""Auto-lambda: weights of losses under which the next step helps the primary outputs on other samples.

Liu, James, Davison, Johns, "Auto-Lambda: Disentangling Dynamic Task Relationships", TMLR 2022,
arXiv:2202.03091. Written from the formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from offramp.checks import choice, number
from offramp.errors import UserError, guess, shown
from offramp.methods.balancers.balancer import Balancer
from offramp.methods.objectives.step import Step
from offramp.methods.objectives.task_loss import sum_of_losses
from offramp.own_adam import OwnAdam

__all__ = ["AutoLambda"]


@dataclass(frozen=True, kw_only=True)
class AutoLambda(Balancer):
    """Weighs loss k by a learned lambda_k, whose slope is that of the primary losses after a virtual step.

    With the gradients g_k of the losses of one batch, the step theta' = theta - lr (mu buffer +
    sum_k lambda_k g_k + decay theta), and q the gradient of the primary outputs' losses at theta', on other
    samples and without the lambdas, the slope in lambda_k is -lr <g_k, q>
    (:mod:`offramp.methods.loops.bilevel`). The primary losses are those of the tasks: what distillation adds
    helps them or gets no weight.

    Attributes:
        primary: Name of the output to help, or a list of names; None: all of them.
        start: The lambda_k at first.
        weight_lr: Learning rate of their Adam: 1e-4 in the authors' code for NYUv2, 3e-5 for Cityscapes,
            3e-4 for CIFAR.
        least: What no lambda_k goes below; None as in the authors' code: one may turn negative.
        scaling: ``sum``: losses weigh lambda_k / start, so that the training begins as joint training;
            ``native``: lambda_k, as published.

    Raises:
        UserError: A value out of its range.
    """

    bilevel = True
    whole_batch = ""
    primary: str | Sequence[str] | None = None
    start: float = 0.1
    weight_lr: float = 1e-4
    least: float | None = None
    scaling: str = "sum"

    def __post_init__(self) -> None:
        number(self, "start", "from 1e-30 to 1e30", lambda value: 1e-30 <= value <= 1e30)
        number(self, "weight_lr", "above 0", lambda lr: lr > 0)
        if self.least is not None:
            number(self, "least", "from -1e30 to start, or None", lambda least: -1e30 <= least <= self.start)
        choice(self, "scaling", ("sum", "native"))
        object.__setattr__(self, "primary", _names(self.primary))

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Sequence[Tensor], Step], list[Tensor]]:  # noqa: D102
        return BoundAutoLambda(self, net.outputs)  # type: ignore[arg-type]


class BoundAutoLambda(nn.Module):
    """Auto-lambda bound to a net; it holds the lambdas, ``[K]``.

    Raises:
        UserError: The net has no output of a primary's name.
    """

    def __init__(self, options: AutoLambda, outputs: Mapping[str, Any]) -> None:
        super().__init__()
        self.factor = 1 / options.start if options.scaling == "sum" else 1.0
        start = torch.full((len(outputs),), float(options.start))
        self.learned = OwnAdam(start, options.weight_lr, least=options.least)
        names = [*outputs]
        for name in options.primary or ():
            if name not in names:
                raise UserError(
                    f"the net has no output {shown(name)}{guess(name, names)}; primary is one of "
                    f"{', '.join(names)}, or a list of them"
                )
        self.primary = [
            k for k, name in enumerate(names) if options.primary is None or name in options.primary
        ]

    def forward(self, losses: Sequence[Tensor], step: Step) -> list[Tensor]:
        """Weigh the losses by their lambdas."""
        weights = self.factor * self.learned.values[step.present]
        return [weight.to(loss) * loss for weight, loss in zip(weights, losses, strict=True)]

    def reached(self, step: Step) -> Sequence[int]:
        """The outputs that have a loss in a step."""
        return step.present

    def outer(self, step: Step, factors: Sequence[float]) -> Tensor | None:
        """The sum of the primary outputs' losses, each times its fixed factor."""
        return sum_of_losses(step, [factor * (k in self.primary) for k, factor in enumerate(factors)])


def _names(value: object) -> tuple[str, ...] | None:
    """Names of outputs, from one or several.

    Raises:
        UserError: They are none.
    """
    if value is None:
        return None
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(n, str) for n in names):
        raise UserError(f"primary is {shown(value)}, must be the name of an output or a list of names")
    return tuple(names)
