"""The fork as a concatenation of detached channels: plain PyTorch, right, and without any saving."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from offramp.forks.gains import Gains

__all__ = ["HandOutJoined", "join_detached"]


@dataclass(frozen=True)
class HandOutJoined:
    """To each reader the feature with its gains built in, as the authors' ResNet and MSDNet do.

    Attributes:
        gains: Of head and next stage.
    """

    gains: Gains

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What head and next stage get of ``x`` ``[N, C, ...]``."""
        return join_detached(x, self.gains.head), join_detached(x, self.gains.next)


def join_detached(x: Tensor, gain: Tensor) -> Tensor:
    """``x`` ``[N, C, ...]`` whose gradient is multiplied by a gain ``[C]``."""
    values, lengths = gain.unique_consecutive(return_counts=True)
    blocks = x.split(lengths.tolist(), 1)
    return torch.cat([_scale(b, g) for b, g in zip(blocks, values.tolist(), strict=True)], 1)


def _scale(x: Tensor, gain: float) -> Tensor:
    if gain == 1:
        return x
    still = x.detach()
    return still if gain == 0 else still + gain * (x - still)
