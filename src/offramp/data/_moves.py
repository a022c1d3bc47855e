"""Images and other maps ``[N, C, H, W]`` that are mirrored, or cut out of padded copies."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["mirrored_maps", "windows"]


def mirrored_maps(maps: Tensor, mirrored: Tensor) -> Tensor:
    """Mirror some maps ``[N, ..., W]`` left to right: those that ``mirrored`` ``[N]`` says."""
    return torch.where(mirrored.view(-1, *(1,) * (maps.dim() - 1)), maps.flip(-1), maps)


def windows(maps: Tensor, corners: Tensor, padding: int, fill: float) -> Tensor:
    """Pad maps ``[N, C, H, W]`` on all sides, and cut each out again in its old size.

    Args:
        maps: The maps.
        corners: Rows and columns where the cuts begin in the padded maps, int64 ``[2, N]``.
        padding: Pixels.
        fill: What the padding holds.
    """
    padded = functional.pad(maps, (padding,) * 4, value=fill)
    views = padded.unfold(2, maps.shape[2], 1).unfold(3, maps.shape[3], 1)  # [N, C, top, left, H, W]
    return views[torch.arange(len(maps), device=maps.device), :, corners[0], corners[1]]
