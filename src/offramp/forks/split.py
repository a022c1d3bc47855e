"""Two layers and an add for each layer that reads a fork, as the authors' VGG does."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from offramp.forks.cat import join_detached
from offramp.forks.channels import Channels
from offramp.forks.gains import Gains

__all__ = ["SPLIT_READERS", "HandOutWhole", "SplitConv2d", "SplitLinear"]


@dataclass(frozen=True)
class HandOutWhole:
    """The feature itself to readers that split it, joined detached halves to any other.

    Attributes:
        gains: Of head and next stage.
        sealed: Whether head and next stage read the Tensor through layers that split it, and nothing else.
    """

    gains: Gains
    sealed: tuple[bool, bool]

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What head and next stage get of ``x`` ``[N, C, ...]``."""
        return (
            x if self.sealed[0] else join_detached(x, self.gains.head),
            x if self.sealed[1] else join_detached(x, self.gains.next),
        )


class SplitConv2d(nn.Conv2d):
    """A convolution of the live channels plus one of the others, detached."""

    live: Channels
    dead: Channels

    def forward(self, input: Tensor) -> Tensor:  # noqa: D102
        if not self.live.count:
            return super().forward(input.detach())
        moving = self._conv_forward(self.live.of(input), self.live.of(self.weight), self.bias)
        return moving + self._conv_forward(self.dead.of(input).detach(), self.dead.of(self.weight), None)


class SplitLinear(nn.Linear):
    """A linear layer on the live channels plus one on the others, detached."""

    live: Channels
    dead: Channels

    def forward(self, input: Tensor) -> Tensor:  # noqa: D102
        if not self.live.count:
            return super().forward(input.detach())
        moving = F.linear(self.live.of(input), self.live.of(self.weight), self.bias)
        return moving + F.linear(self.dead.of(input).detach(), self.dead.of(self.weight))


SPLIT_READERS: dict[type[nn.Module], type[nn.Module]] = {nn.Conv2d: SplitConv2d, nn.Linear: SplitLinear}
