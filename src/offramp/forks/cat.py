"""The fork as a concatenation of detached channels: plain PyTorch, right, and without any saving."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from offramp.forks.channels import Channels
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
    values, group_of = gain.unique(return_inverse=True)
    groups = [Channels(group_of == g) for g in range(len(values))]
    parts = [_scale(group.of(x), float(value)) for group, value in zip(groups, values, strict=True)]
    joined = torch.cat(parts, 1)
    order = torch.cat([(group_of == g).nonzero().flatten() for g in range(len(values))])
    if (order.diff() == 1).all():
        return joined
    if all(group.range is not None for group in groups):  # whole blocks, in another order
        by_place = sorted(range(len(groups)), key=lambda g: groups[g].range.start)
        return torch.cat([parts[g] for g in by_place], 1)
    return joined.index_select(1, order.argsort().to(x.device))


def _scale(x: Tensor, gain: float) -> Tensor:
    if gain == 1:
        return x
    still = x.detach()
    return still if gain == 0 else still + gain * (x - still)
