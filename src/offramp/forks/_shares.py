"""How many of a feature's channels a share is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

__all__ = ["ROUNDINGS", "parts", "shared_count"]

ROUNDINGS = ("round", "floor", "multiple_of=8")


def shared_count(beta: float, channels: int, rounding: str) -> int:
    """Number of shared channels, C+, of C (the paper's rounding is Python's: half to even)."""
    if rounding == "floor":
        return int(beta * channels)
    if rounding == "multiple_of=8":
        return 8 * round(beta * channels / 8)
    return round(beta * channels)


def parts(shares: Sequence[float], channels: int, rounding: str) -> Tensor:
    """Deal channels out in consecutive parts, whose ends are rounded.

    Args:
        shares: K, in proportion.
        channels: C.
        rounding: One of :data:`ROUNDINGS`.

    Returns:
        Bool ``[K, C]``: every channel is in one part.
    """
    sums = [0.0, *accumulate(shares)]
    ends = [shared_count(end / sums[-1], channels, rounding) for end in sums[:-1]]
    mask = torch.zeros(len(shares), channels, dtype=torch.bool)
    for part, (start, stop) in zip(mask, pairwise([*ends, channels]), strict=True):
        part[start:stop] = True
    return mask
