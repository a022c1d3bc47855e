"""Learned routes, as a drawing needs them: who listens to whom between two layers (DR-MGF, Fig 13)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Connection", "connections", "stride"]


@dataclass(frozen=True)
class Connection:
    """One kernel in a drawing.

    Attributes:
        source: Input channel.
        target: Output channel.
        strength: Its importance, as a share of the largest in its row.
    """

    source: int
    target: int
    strength: float


def connections(importance: Tensor, *, top: float = 0.2) -> list[Connection]:
    """For every output channel the strongest of its incoming connections.

    Args:
        importance: |nu| of one output, ``[m, n]``.
        top: Which share of the n, at least one.

    Returns:
        By output channel, the strongest first.
    """
    kept = max(1, round(top * importance.shape[1]))
    values, sources = importance.detach().abs().double().topk(kept, dim=1)
    largest = values[:, :1].clamp(min=1e-300)
    return [
        Connection(source, target, strength)
        for target, row in enumerate(zip(sources.tolist(), (values / largest).tolist(), strict=True))
        for source, strength in zip(*row, strict=True)
    ]


def stride(channels: int, at_most: int = 16) -> int:
    """Draw every so-manieth channel, so that no more than ``at_most`` are drawn."""
    return math.ceil(channels / at_most)
