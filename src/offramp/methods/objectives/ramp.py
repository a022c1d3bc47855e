"""The losses of shallow exits fade in: the training of Shallow-Deep Networks.

Kaya, Hong, Dumitras, "Shallow-Deep Networks: Understanding and Mitigating Network Overthinking", ICML 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from offramp.checks import choice
from offramp.counting import cost
from offramp.errors import UserError
from offramp.methods.objectives.objective import Objective
from offramp.methods.objectives.step import Step
from offramp.nets import MultiExitNet

__all__ = ["Ramp", "tau_max", "taus"]

PUBLISHED = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
PUBLISHED_FOR = ("vgg_sdn", "resnet_sdn", "wideresnet_sdn")


@dataclass(frozen=True, kw_only=True)
class Ramp(Objective):
    """Loss k < K is tau_k(e) CE_k, loss K is CE_K.

    In epoch e of E,

        tau_k(e) = min(tau_max_k, 0.01 + e tau_max_k / E).

    The published tau_max, (.15, .3, .45, .6, .75, .9), are the shares of the network's operations after which
    its six internal exits were meant to stand. They hold for the seven-exit SDN networks; elsewhere tau_max_k
    is the share FLOPs_k / FLOPs_K as :func:`offramp.cost` counts it. The weights sum to less than joint
    training's K throughout: part of what this method does is a smaller step for shallow layers.

    Attributes:
        first_epoch: Whether e counts from 1, as in the authors' code, or from 0, as in that of Meta-GF.

    Raises:
        UserError: A value out of its range.
    """

    reads_epochs: ClassVar[tuple[str, ...]] = ("the ramp",)
    one_by_one = True
    whole_batch = ""
    first_epoch: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self, "first_epoch", (0, 1))

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Step], list[Tensor]]:  # noqa: D102
        return partial(self.losses, tau_max(net))

    def __call__(self, step: Step) -> list[Tensor]:
        """Losses of a step, with the net's operations counted anew."""
        return self.losses(tau_max(step.net), step)

    def losses(self, highest: Sequence[float], step: Step) -> list[Tensor]:
        """The K losses of a step.

        Args:
            highest: tau_max, one for every exit but the last.
            step: The step.
        """
        weights = taus(highest, (step.epoch + self.first_epoch) / step.epochs)
        return [weights[k] * step.loss(k) for k in step.present]


def taus(highest: Sequence[float], fraction: float) -> list[float]:
    """Weights tau_k of every exit after a fraction of the epochs."""
    return [*(min(top, 0.01 + fraction * top) for top in highest), 1.0]


def tau_max(net: nn.Module) -> tuple[float, ...]:
    """Largest weight tau_max_k of each exit but the last.

    Raises:
        UserError: The net's operations cannot be counted.
    """
    if not isinstance(net, MultiExitNet):
        raise UserError(f"sdn-ramp weighs exits by their depth, and those of {type(net).__name__} have none")
    if (net.spec or {}).get("net") in PUBLISHED_FOR and net.num_exits == len(PUBLISHED) + 1:
        return PUBLISHED
    counted = cost(net)
    flops = [exit.flops for exit in counted.exits if exit.flops is not None]
    if counted.unknown:
        raise UserError(
            f"sdn-ramp weighs exits by their operations, and not all are known: {counted.unknown[0]}"
        )
    return tuple(f / flops[-1] for f in flops[:-1])
