"""How one image of any size becomes a square: ImageNet's crops, on PIL images."""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["centre_crop", "random_resized_crop"]

BILINEAR = 2  # PIL.Image.Resampling.BILINEAR


def random_resized_crop(image: Image, size: int, draws: Random) -> Image:
    """A random part of the image, resized: 8 % to all of its area, 3:4 to 4:3 in shape (Szegedy et al. 2015).

    Args:
        image: Any size.
        size: Side of the square in pixels.
        draws: Source of the random numbers.
    """
    width, height = image.size
    for _ in range(10):
        area = width * height * draws.uniform(0.08, 1.0)
        aspect = math.exp(draws.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = draws.randint(0, width - w), draws.randint(0, height - h)
            break
    else:  # very long images: their middle, no longer than 4:3
        w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
        left, top = (width - w) // 2, (height - h) // 2
    return image.crop((left, top, left + w, top + h)).resize((size, size), BILINEAR)


def centre_crop(image: Image, size: int) -> Image:
    """Resize so that the shorter side is 256/224 of `size`, and cut out the middle."""
    shorter = round(size * 256 / 224)
    scale = shorter / min(image.size)
    width, height = (max(shorter, int(side * scale)) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.resize((width, height), BILINEAR).crop((left, top, left + size, top + size))
