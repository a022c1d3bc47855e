"""Strongest connections of a learned route between two layers, for its drawing (DR-MGF, Fig 13)."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["strongest"]


def strongest(importance: Tensor, *, top: float = 0.2) -> Tensor:
    """For every output channel the strongest of its incoming connections.

    Args:
        importance: |nu| of one or more outputs, ``[..., m, n]``.
        top: Which share of the n, at least one.

    Returns:
        Bool ``[..., m, n]``, the same number true in every row.
    """
    count = max(1, round(top * importance.shape[-1]))
    positions = importance.detach().abs().topk(count, dim=-1).indices
    return torch.zeros_like(importance, dtype=torch.bool).scatter_(-1, positions, True)
