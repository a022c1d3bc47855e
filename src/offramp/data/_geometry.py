"""ImageNet's crops: one image of any size becomes a square, on PIL images and on Tensors.

The window that a square shows is (x0, y0, x1, y1) as fractions of its image.
"""

from __future__ import annotations

import math
from random import Random

import torch
from torch import Tensor
from torch.nn import functional

from offramp.data._pictures import Picture, size_of
from offramp.data.decoding import BILINEAR, centre, centre_square

__all__ = ["centre_crop", "centre_window", "random_resized_crop", "random_window"]


def random_resized_crop(image: Picture, size: int, draws: Random) -> Picture:
    """A random part of the image, resized: 8 % to all of its area, 3:4 to 4:3 in shape (Szegedy et al. 2015).

    Args:
        image: Any size.
        size: Side of the square in pixels.
        draws: Source of the random numbers.
    """
    left, top, w, h = _random_part(image, draws)
    return _resized(_cut(image, left, top, w, h), size, size)


def random_window(image: Picture, draws: Random) -> tuple[float, float, float, float]:
    """The window that :func:`random_resized_crop` shows after the same draws."""
    _, height, width = size_of(image)
    left, top, w, h = _random_part(image, draws)
    return left / width, top / height, (left + w) / width, (top + h) / height


def _random_part(image: Picture, draws: Random) -> tuple[int, int, int, int]:
    """Left, top, width and height of a random part of the image."""
    _, height, width = size_of(image)
    for _ in range(10):
        area = width * height * draws.uniform(0.08, 1.0)
        aspect = math.exp(draws.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return draws.randint(0, width - w), draws.randint(0, height - h), w, h
    # very long images: their middle, no longer than 4:3
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    return (width - w) // 2, (height - h) // 2, w, h


def centre_crop(image: Picture, size: int) -> Picture:
    """Resize so that the shorter side is 256/224 of `size`, and cut out the middle."""
    if not isinstance(image, Tensor):
        return centre_square(image, size)
    height, width, left, top = _centre(image, size)
    return _cut(_resized(image, width, height), left, top, size, size)


def centre_window(image: Picture, size: int) -> tuple[float, float, float, float]:
    """The window that :func:`centre_crop` shows."""
    height, width, left, top = _centre(image, size)
    return left / width, top / height, (left + size) / width, (top + size) / height


def _centre(image: Picture, size: int) -> tuple[int, int, int, int]:
    _, height, width = size_of(image)
    return centre(height, width, size)


def _cut(image: Picture, left: int, top: int, width: int, height: int) -> Picture:
    if isinstance(image, Tensor):
        return image[:, top : top + height, left : left + width]
    return image.crop((left, top, left + width, top + height))


def _resized(image: Picture, width: int, height: int) -> Picture:
    """Bilinear resize, over all pixels that a new one covers, as Pillow does it."""
    if not isinstance(image, Tensor):
        return image.resize((width, height), BILINEAR)
    resized = functional.interpolate(image[None].float(), (height, width), mode="bilinear", antialias=True)[0]
    return resized.round().to(torch.uint8) if image.dtype == torch.uint8 else resized
