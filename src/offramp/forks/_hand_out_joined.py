"""Hand a feature out as joined detached channels: plain PyTorch, right everywhere, no saving."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from offramp.forks.gains import Gains

__all__ = ["HandOutJoined"]


class HandOutJoined:
    """Hands each reader the feature with its gains built in, as the authors' ResNet and MSDNet do.

    Args:
        gains: Gains of head and next stage, ``[C]``.
        axis: The axis of the channels.
    """

    def __init__(self, gains: Gains, axis: int) -> None:
        self.axis = axis
        self.blocks = [
            [(gain, sum(1 for _ in group)) for gain, group in groupby(side.tolist())]
            for side in (gains.head, gains.next)
        ]

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The Tensor for the head, and the Tensor for the next stage."""
        head, following = (_joined(x, blocks, self.axis) for blocks in self.blocks)
        return head, following

    def __repr__(self) -> str:
        return f"joined, axis {self.axis}"


def _joined(x: Tensor, blocks: Sequence[tuple[float, int]], axis: int) -> Tensor:
    """A Tensor of the same values whose gradient is multiplied by a gain in each block of channels."""
    gains, lengths = zip(*blocks, strict=True)
    parts = [_scaled(part, gain) for part, gain in zip(x.split(lengths, axis), gains, strict=True)]
    return torch.cat(parts, axis) if len(parts) > 1 else parts[0]


def _scaled(x: Tensor, gain: float) -> Tensor:
    if gain == 1:
        return x
    still = x.detach()
    return still if gain == 0 else still + gain * (x - still)
