"""The plain balancer: every loss weighs the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from offramp.methods.balancers.balancer import Balancer
from offramp.methods.objectives.step import Step

__all__ = ["Equal"]


@dataclass(frozen=True, kw_only=True)
class Equal(Balancer):
    """Equal weights: the losses stay as they are."""

    whole_batch = ""

    def __call__(self, losses: Sequence[Tensor], step: Step) -> list[Tensor]:  # noqa: D102
        return list(losses)
