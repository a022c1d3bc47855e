"""The image operations of AutoAugment on batches, each as PIL does it.

Every operation maps uint8 images ``[N, 3, H, W]`` and one magnitude per image (float64 ``[N]``; the last
three ignore it) to uint8 images of the same shape. They follow PIL's arithmetic, truncations included; the
tests hold each of them against PIL. What moves in from outside the image is gray, 128.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["OPS"]

FILL = 128


def shear_y(images: Tensor, slope: Tensor) -> Tensor:
    """Column x moves up by slope * x pixels: ``Image.transform(AFFINE, (1, 0, 0, slope, 1, 0), BICUBIC)``."""
    height, width = images.shape[2:]
    x = torch.arange(width, dtype=torch.float64, device=images.device) + 0.5
    y = torch.arange(height, dtype=torch.float64, device=images.device) + 0.5
    source = (slope[:, None, None] * x + y[:, None])[:, None]  # [N, 1, H, W]: where each pixel comes from
    row = (source - 0.5).floor()
    d = source - 0.5 - row
    a, b, c, e = (
        images.gather(2, (row.long() + tap).clamp_(0, height - 1).expand_as(images)).double()
        for tap in (-1, 0, 1, 2)
    )
    # PIL's cubic (a = -1). x stays on the pixel grid, so that the interpolation along x is the identity.
    value = b + d * ((c - a) + d * ((2 * (a - b) + c - e) + d * (b - a + e - c)))
    inside = (source >= 0) & (source < height)
    return torch.where(inside, value.clamp_(0, 255), FILL).to(torch.uint8)


def translate_x(images: Tensor, fraction: Tensor) -> Tensor:
    """Move left by this fraction of the width: ``Image.transform(AFFINE, (1, 0, fraction * W, 0, 1, 0))``."""
    one, zero = torch.ones_like(fraction), torch.zeros_like(fraction)
    return _warp(images, (one, zero, fraction * images.shape[3]), (zero, one, zero))


def translate_y(images: Tensor, fraction: Tensor) -> Tensor:
    """Move up by this fraction of the height: ``Image.transform(AFFINE, (1, 0, 0, 0, 1, fraction * H))``."""
    one, zero = torch.ones_like(fraction), torch.zeros_like(fraction)
    return _warp(images, (one, zero, zero), (zero, one, fraction * images.shape[2]))


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Turn counter-clockwise about the centre: ``Image.rotate(degrees)`` over a gray ground."""
    angle = -degrees * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    cy, cx = images.shape[2] / 2, images.shape[3] / 2
    return _warp(images, (cos, sin, cx - cos * cx - sin * cy), (-sin, cos, cy + sin * cx - cos * cy))


def _warp(images: Tensor, to_x: tuple[Tensor, ...], to_y: tuple[Tensor, ...]) -> Tensor:
    """Nearest-neighbour affine map in PIL's 16.16 fixed point: source x = a x + b y + c, likewise y."""
    height, width = images.shape[2:]
    x = torch.arange(width, device=images.device)
    y = torch.arange(height, device=images.device)[:, None]
    column, row = (
        (_fixed(a) * x + _fixed(b) * y + _fixed(c + (a + b) / 2)) >> 16 for a, b, c in (to_x, to_y)
    )  # [N, H, W] each
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    source = (row.clamp_(0, height - 1) * width + column.clamp_(0, width - 1))[:, None]
    moved = images.flatten(2).gather(2, source.expand_as(images).flatten(2)).view_as(images)
    return torch.where(inside[:, None], moved, FILL)


def _fixed(value: Tensor) -> Tensor:
    return (value * 65536 + 0.5).floor().long()[:, None, None]


def color(images: Tensor, factor: Tensor) -> Tensor:
    """``ImageEnhance.Color``: 0 is gray, 1 the image."""
    return _blend(_gray(images)[:, None], images, factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """``ImageEnhance.Contrast``: 0 is the mean gray everywhere, 1 the image."""
    mean = _gray(images).double().mean((1, 2))
    return _blend((mean + 0.5).floor()[:, None, None, None], images, factor)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """``ImageEnhance.Brightness``: 0 is black, 1 the image."""
    return _blend(torch.zeros_like(images), images, factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """``ImageEnhance.Sharpness``: 0 is smoothed, 1 the image. The outermost pixels stay as they are."""
    wide = images.to(torch.int16)
    rows = wide[:, :, :-2] + wide[:, :, 1:-1] + wide[:, :, 2:]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * wide[:, :, 1:-1, 1:-1]
    smooth = images.float()  # weights 1 1 1, 1 5 1, 1 1 1 over 13, rounded
    smooth[:, :, 1:-1, 1:-1] = ((total + 6) / 13).floor_()
    return _blend(smooth, images, factor)


def _gray(images: Tensor) -> Tensor:
    """PIL's "L": ITU-R 601 luma in 16-bit fixed point, ``[N, H, W]``."""
    red, green, blue = images.int().unbind(1)
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


def _blend(ground: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """``Image.blend(ground, images, factor)``: from the ground (0) through the image (1) and beyond."""
    ground = ground.float()
    step = (images - ground).mul_(factor.float()[:, None, None, None])
    return step.add_(ground).clamp_(0, 255).to(torch.uint8)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """``ImageOps.posterize``: keep the upper `bits` bits."""
    mask = 256 - 2 ** (8 - bits)
    return images & mask.to(torch.uint8)[:, None, None, None]


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """``ImageOps.solarize``: invert what is not below the threshold."""
    return torch.where(images < threshold[:, None, None, None], images, 255 - images)


def invert(images: Tensor, _: Tensor) -> Tensor:
    """``ImageOps.invert``."""
    return 255 - images


def autocontrast(images: Tensor, _: Tensor) -> Tensor:
    """``ImageOps.autocontrast``: stretch each channel to 0 ... 255; a channel of one value stays."""
    low, high = (v[:, :, None, None].double() for v in torch.aminmax(images.flatten(2), dim=2))
    scale = 255 / (high - low)  # infinite where low = high, and not used there
    stretched = (images * scale - low * scale).clamp_(0, 255)
    return torch.where(high > low, stretched, images.double()).to(torch.uint8)


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """``ImageOps.equalize``: flatten each channel's histogram; a channel too flat to scale stays."""
    channels = len(images) * images.shape[1]
    pixels = images.reshape(channels, -1).long()
    offset = 256 * torch.arange(channels, device=images.device)[:, None]
    histogram = (pixels + offset).flatten().bincount(minlength=256 * channels).view(channels, 256)
    last = histogram.gather(1, pixels.amax(1, keepdim=True))  # how many pixels have the highest value
    step = (pixels.shape[1] - last) // 255
    below = histogram.cumsum(1) - histogram
    table = ((step // 2 + below) // step.clamp(min=1)).clamp_(max=255).to(torch.uint8)
    table = torch.where(step > 0, table, torch.arange(256, dtype=torch.uint8, device=images.device))
    return table.gather(1, pixels).view_as(images)


OPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    op.__name__: op
    for op in (
        shear_y,
        translate_x,
        translate_y,
        rotate,
        color,
        contrast,
        brightness,
        sharpness,
        posterize,
        solarize,
        invert,
        autocontrast,
        equalize,
    )
}
