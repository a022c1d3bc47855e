"""The fused fork: hands out cuts, whose readers never compute what the fork would drop."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from offramp.forks.cut import Cut, branch, join
from offramp.forks.routing import Routing

__all__ = ["HandOutCuts"]


@dataclass(frozen=True)
class HandOutCuts:
    """A cut to each reader that knows what to do with one, its join to any other.

    Attributes:
        routing: The gains of head and next stage, in this order.
        sealed: Whether head and next stage read the Tensor through layers that know cuts, and nothing else.
    """

    routing: Routing
    sealed: tuple[bool, bool]

    def __call__(self, x: Tensor) -> tuple[Tensor | Cut, Tensor | Cut]:
        """What head and next stage get of ``x`` ``[N, C, ...]``."""
        if not (torch.is_grad_enabled() and x.requires_grad):
            return x, x
        to_head, to_next = branch(x, self.routing)
        return (
            to_head if self.sealed[0] else join(to_head),
            to_next if self.sealed[1] else join(to_next),
        )
