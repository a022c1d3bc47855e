"""Channel means and deviations of images."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Levels", "statistics"]

Levels = tuple[float, ...]  # one number for each channel


def statistics(images: Tensor) -> tuple[Levels, Levels]:
    """Mean and standard deviation of each channel; the deviation of a blank channel is not 0.

    Args:
        images: ``[N, C, H, W]``; uint8 counts on the scale 0 ... 1.
    """
    mean, std = (_of_levels if images.dtype == torch.uint8 else _of_floats)(images)
    return tuple(mean.tolist()), tuple(std.tolist())


def _of_levels(images: Tensor) -> tuple[Tensor, Tensor]:
    counts = (
        torch.stack([images[:, c].flatten().bincount(minlength=256) for c in range(images.shape[1])])
        .double()
        .cpu()
    )
    share = counts / counts.sum(1, keepdim=True)
    level = torch.arange(256, dtype=torch.float64) / 255
    mean = share @ level
    variance = (share * (level - mean[:, None]) ** 2).sum(1)
    return mean, variance.sqrt().clamp(min=1 / 255)


def _of_floats(images: Tensor) -> tuple[Tensor, Tensor]:
    channels = [images[:, c].double().cpu() for c in range(images.shape[1])]
    mean = torch.stack([channel.mean() for channel in channels])
    std = torch.stack([channel.std(correction=0) for channel in channels])
    return mean, torch.where(std > 1e-6 * mean.abs(), std, torch.ones_like(std))
