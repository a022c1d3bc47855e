"""Batch augmentation: per-sample crop, flip and Cutout as a few tensor operations a batch.

Every function maps images ``[B, C, H, W]`` to new ones of the same shape and kind, uint8 or float32. Random
numbers come from the CPU generator given, also when the images are on a GPU, so that all devices see the
same augmentation.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional

__all__ = ["crop", "cutout", "flip"]


def crop(images: Tensor, generator: Generator, *, padding: int = 4, fill: int = 0) -> Tensor:
    """Pad by `padding` pixels and cut each image out again at a place of its own.

    `fill` is a level of 255; of floats, on the scale 0 ... 1.
    """
    size, device = images.shape[-2:], images.device
    level = fill / 255 if images.is_floating_point() else fill
    padded = functional.pad(images, (padding,) * 4, value=level)
    corners = torch.randint(2 * padding + 1, (2, len(images)), generator=generator).to(device)
    windows = padded.unfold(2, size[0], 1).unfold(3, size[1], 1)  # a view: [B, C, top, left, H, W]
    return windows[torch.arange(len(images), device=device), :, corners[0], corners[1]]


def flip(images: Tensor, generator: Generator) -> Tensor:
    """Mirror each image left to right with probability one half."""
    mirrored = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def cutout(images: Tensor, generator: Generator, *, length: int = 16) -> Tensor:
    """Black out one square of `length` pixels in each image (DeVries & Taylor, 2017).

    The centre is uniform over the image's pixels and the square is clipped at the borders.
    """
    height = _hole(images.shape[2], len(images), length, generator)
    width = _hole(images.shape[3], len(images), length, generator)
    keep = ~(height[:, :, None] & width[:, None, :])
    return images * keep[:, None].to(images.device)


def _hole(size: int, count: int, length: int, generator: Generator) -> Tensor:
    """Mask of the positions along one axis that the hole of each image covers: bool ``[count, size]``."""
    centre = torch.randint(size, (count, 1), generator=generator)
    position = torch.arange(size)
    return (position >= centre - length // 2) & (position < centre + length // 2)
