"""Every AutoAugment operation against PIL, the way the well-known CIFAR-10 policy code calls it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from offramp.data._autoaugment import magnitude
from offramp.data._image_ops import OPS

GRAY = (128, 128, 128)


def affine(*matrix, resample=Image.Resampling.NEAREST):
    return lambda image: image.transform(image.size, Image.Transform.AFFINE, matrix, resample, fillcolor=GRAY)


def rotated(image, degrees):
    turned = image.convert("RGBA").rotate(degrees)
    return Image.composite(turned, Image.new("RGBA", turned.size, (128,) * 4), turned).convert("RGB")


def by_pil(op, image, m):
    width, height = image.size
    return {
        "shear_y": affine(1, 0, 0, m, 1, 0, resample=Image.Resampling.BICUBIC),
        "translate_x": affine(1, 0, m * width, 0, 1, 0),
        "translate_y": affine(1, 0, 0, 0, 1, m * height),
        "rotate": lambda i: rotated(i, m),
        "color": lambda i: ImageEnhance.Color(i).enhance(m),
        "contrast": lambda i: ImageEnhance.Contrast(i).enhance(m),
        "brightness": lambda i: ImageEnhance.Brightness(i).enhance(m),
        "sharpness": lambda i: ImageEnhance.Sharpness(i).enhance(m),
        "posterize": lambda i: ImageOps.posterize(i, int(m)),
        "solarize": lambda i: ImageOps.solarize(i, m),
        "invert": ImageOps.invert,
        "autocontrast": ImageOps.autocontrast,
        "equalize": ImageOps.equalize,
    }[op](image)


def pictures(height, width):
    """Noise, dark and low-contrast noise, a smooth picture, one colour, two colours: uint8 [N, 3, H, W]."""
    g = torch.Generator().manual_seed(0)
    noise = torch.randint(256, (4, 3, height, width), generator=g, dtype=torch.uint8)
    y, x = torch.meshgrid(torch.linspace(0, 255, height), torch.linspace(0, 255, width), indexing="ij")
    smooth = torch.stack((x, y, (x + y) / 2)).to(torch.uint8)[None]
    flat = torch.full_like(smooth, 77)
    two = torch.where(noise[:1] < 128, 20, 220).to(torch.uint8)
    return torch.cat((noise, noise[:2] // 6, 90 + noise[2:] // 20, smooth, flat, two))


@pytest.mark.parametrize("size", [(32, 32), (17, 24)], ids=str)
@pytest.mark.parametrize("op", OPS)
def test_every_operation_equals_pil(op, size):
    images = pictures(*size)
    for index in range(10):
        for sign in (-1, 1):
            m = magnitude(op, index, sign)
            amounts = torch.full((len(images),), m, dtype=torch.float64)
            ours = OPS[op](images, amounts)
            assert ours.dtype == torch.uint8
            for image, result in zip(images, ours, strict=True):
                expected = np.asarray(by_pil(op, Image.fromarray(image.permute(1, 2, 0).numpy()), m))
                difference = result.permute(1, 2, 0).int() - torch.from_numpy(expected.astype(np.int32))
                assert difference.abs().max() <= 1, (op, index, sign)


@pytest.mark.parametrize("op", OPS)
def test_each_image_has_its_own_magnitude_and_the_input_stays(op):
    images = pictures(32, 32)[:4]
    before = images.clone()
    amounts = torch.tensor(
        [magnitude(op, i, s) for i, s in ((1, 1), (9, -1), (5, 1), (9, 1))], dtype=torch.float64
    )
    together = OPS[op](images, amounts)
    for i in range(4):
        assert torch.equal(together[i], OPS[op](images[i : i + 1], amounts[i : i + 1])[0])
    assert torch.equal(images, before)
