"""Batch augmentation: per-sample crop, flip and Cutout as a few tensor operations a batch.

Images are ``[B, C, H, W]``, uint8 or float32, and stay so; targets go where the images' content goes. Random
numbers come from the CPU generator given, also when the images are on a GPU, so that all devices see the same
augmentation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from typing import Protocol

import torch
from torch import Generator, Tensor

from offramp.data._moves import enlarged, mirrored_maps, windows
from offramp.data.batch import Batch
from offramp.data.targets import Target

__all__ = ["Augmentation", "crop", "cutout", "flip", "of_images", "zoom"]

ZOOMS = (1.0, 1.2, 1.5)  # of MTAN's augmentation of NYUv2 (Liu et al., CVPR 2019)


class Augmentation(Protocol):
    """A step of a pipeline.

    Args:
        batch: Images ``[B, C, H, W]`` and their targets.
        generator: Draws, on the CPU.
        kinds: What each target is.
    """

    def __call__(self, batch: Batch, generator: Generator, kinds: Mapping[str, Target], /) -> Batch: ...


def of_images(change: Callable[[Tensor, Generator], Tensor]) -> Augmentation:
    """A step that changes images alone, of a function of images and a generator."""

    @wraps(change)
    def step(batch: Batch, generator: Generator, kinds: Mapping[str, Target], /) -> Batch:
        return replace(batch, inputs=change(_images(batch), generator))

    return step


def crop(
    batch: Batch, generator: Generator, kinds: Mapping[str, Target], /, *, padding: int = 4, fill: int = 0
) -> Batch:
    """Pad by `padding` pixels and cut each image out again at a place of its own.

    `fill` is a level of 255; of floats, on the scale 0 ... 1.
    """
    images = _images(batch)
    level = fill / 255 if images.is_floating_point() else fill
    corners = torch.randint(2 * padding + 1, (2, len(batch)), generator=generator).to(images.device)
    height, width = images.shape[-2:]
    targets = {
        key: kinds[key].cropped(target, corners, padding, (height, width))
        for key, target in batch.targets.items()
    }
    return replace(batch, inputs=windows(images, corners, padding, level), targets=targets)


def flip(batch: Batch, generator: Generator, kinds: Mapping[str, Target], /) -> Batch:
    """Mirror each image left to right with probability one half."""
    images = _images(batch)
    mirrored = (torch.rand(len(batch), generator=generator) < 0.5).to(images.device)
    targets = {key: kinds[key].flipped(target, mirrored) for key, target in batch.targets.items()}
    return replace(batch, inputs=mirrored_maps(images, mirrored), targets=targets)


def zoom(batch: Batch, generator: Generator, kinds: Mapping[str, Target], /) -> Batch:
    """Cut a part out of each image, at a place of its own, and resize it to the whole.

    The part's height and width are those of the image by 1, 1.2 or 1.5, rounded down.
    """
    images = _images(batch)
    height, width = images.shape[-2:]
    chosen = torch.randint(len(ZOOMS), (len(batch),), generator=generator)
    sizes = torch.tensor([[max(1, int(side / scale)) for scale in ZOOMS] for side in (height, width)])[
        :, chosen
    ]
    left = torch.tensor([[height], [width]]) - sizes
    corners = (torch.rand(2, len(batch), generator=generator) * (left + 1)).long()
    scales = torch.tensor(ZOOMS)[chosen]
    corners, sizes, scales = (x.to(images.device) for x in (corners, sizes, scales))
    zoomed = enlarged(images, corners, sizes)
    targets = {
        key: kinds[key].enlarged(target, corners, sizes, scales, (height, width))
        for key, target in batch.targets.items()
    }
    return replace(
        batch,
        inputs=zoomed if images.is_floating_point() else zoomed.round().to(images.dtype),
        targets=targets,
    )


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


def _images(batch: Batch) -> Tensor:
    assert isinstance(batch.inputs, Tensor)
    return batch.inputs
