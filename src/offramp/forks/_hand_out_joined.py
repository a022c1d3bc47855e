"""Hand a feature out as joined detached channels: plain PyTorch, right everywhere, no saving."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

__all__ = ["HandOutJoined"]


class HandOutJoined:
    """Hands each consumer the feature with its gains built in, as the authors' ResNet and MSDNet do.

    Args:
        gains: ``[consumers, C]``.
        axis: The axis of the channels.
    """

    def __init__(self, gains: Tensor, axis: int) -> None:
        self.axis = axis
        self.gains: list[list[float]] = gains.tolist()
        self.blocks = [[(gain, sum(1 for _ in group)) for gain, group in groupby(row)] for row in self.gains]

    def __call__(self, x: Tensor) -> list[Tensor]:
        """The Tensor for each consumer."""
        return [_joined(x, blocks, self.axis) for blocks in self.blocks]

    def values(self, x: Tensor) -> list[Tensor]:
        """The Tensor for each consumer, with no gain."""
        return [x] * len(self.gains)

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
