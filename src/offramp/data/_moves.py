"""Images and other maps ``[N, C, H, W]`` that are mirrored, or cut out of padded copies."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["enlarged", "enlarged_nearest", "mirrored_maps", "windows"]


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


def enlarged(maps: Tensor, corners: Tensor, sizes: Tensor) -> Tensor:
    """A part of each map ``[N, C, H, W]``, resized to the whole: bilinear, with corners on corners.

    Args:
        maps: The maps.
        corners: First row and column of each part, int64 ``[2, N]``.
        sizes: Height and width of each part, likewise.

    Returns:
        float32.
    """
    maps = maps.float()
    for axis, first, size in zip((2, 3), corners, sizes, strict=True):
        length = maps.shape[axis]
        steps = torch.arange(length, device=maps.device, dtype=torch.float32)
        place = steps * ((size - 1) / max(length - 1, 1))[:, None]
        below = place.long()
        above = torch.minimum(below + 1, size[:, None] - 1)
        start = _along(maps, axis, first[:, None] + below)
        end = _along(maps, axis, first[:, None] + above)
        share = (place - below).view(len(maps), 1, *(length, 1) if axis == 2 else (1, length))
        maps = torch.lerp(start, end, share)
    return maps


def enlarged_nearest(maps: Tensor, corners: Tensor, sizes: Tensor) -> Tensor:
    """A part of each map ``[N, C, H, W]``, resized to the whole by the pixel that holds each place.

    Args:
        maps: The maps, of any kind of number.
        corners: First row and column of each part, int64 ``[2, N]``.
        sizes: Height and width of each part, likewise.
    """
    for axis, first, size in zip((2, 3), corners, sizes, strict=True):
        length = maps.shape[axis]
        steps = torch.arange(length, device=maps.device, dtype=torch.float32)
        place = (steps * (size / length)[:, None]).long()
        maps = _along(maps, axis, first[:, None] + torch.minimum(place, size[:, None] - 1))
    return maps


def _along(maps: Tensor, axis: int, index: Tensor) -> Tensor:
    """Rows (axis 2) or columns (axis 3) of each map: those that ``index`` ``[N, L]`` says."""
    shape = list(maps.shape)
    shape[axis] = index.shape[1]
    view = index[:, None, :, None] if axis == 2 else index[:, None, None, :]
    return maps.gather(axis, view.expand(shape))
