"""A feature handed to one reader, and the same Tensor with its gradient cut by hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from offramp.forks import _channelwise, _readers  # noqa: F401
from offramp.forks._hand_out_cut import HandOutCut


def handed(x: Tensor, mask: Sequence[int], axis: int = 1, *, split: bool = False) -> Tensor:
    """The feature for a head that sends its gradient back through the channels of a mask."""
    live = torch.tensor(mask, dtype=torch.float64)
    gains = torch.stack([live, 1 - live])
    return HandOutCut(gains, axis % x.dim(), split=split, source="the feature of exit 1")(x)[0]


def detached(x: Tensor, mask: Sequence[int], axis: int = 1) -> Tensor:
    """The Tensor, detached in the channels that a mask leaves out."""
    shape = [-1 if d == axis % x.dim() else 1 for d in range(x.dim())]
    return torch.where(torch.tensor(mask, dtype=torch.bool).reshape(shape), x, x.detach())
