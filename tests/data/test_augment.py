"""Crop, flip and Cutout against a search over everything that they may do."""

from __future__ import annotations

import pytest
import torch
from PIL import Image, ImageOps

from offramp.data import Batch
from offramp.data._augment import crop, cutout, flip, of_images


def on_images(step, images, seed, **options):
    """What a step makes of images without targets."""
    return step(Batch(images, {}), torch.Generator().manual_seed(seed), {}, **options).inputs


@pytest.fixture
def images():
    return torch.randint(
        1, 256, (400, 3, 10, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )


def pil(image):
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def tensor(image):
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(image.height, image.width, 3)


@pytest.mark.parametrize("fill", [0, 128])
def test_crop_is_one_of_pils_81_windows_and_takes_them_all_equally(images, fill):
    cropped = on_images(crop, images[:1].expand(4000, -1, -1, -1), 1, fill=fill)
    padded = ImageOps.expand(pil(images[0]), 4, (fill,) * 3)
    windows = {
        tensor(padded.crop((x, y, x + 12, y + 10))).numpy().tobytes(): 0 for x in range(9) for y in range(9)
    }
    for result in cropped:
        windows[result.permute(1, 2, 0).contiguous().numpy().tobytes()] += 1  # KeyError: no window
    assert len(windows) == 81
    assert min(windows.values()) > 20 and max(windows.values()) < 85


def test_each_image_is_cropped_from_itself(images):
    images = torch.arange(1, 201, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 6, 6)
    cropped = on_images(crop, images, 0, padding=2, fill=0)
    assert torch.equal(cropped.amax((1, 2, 3)), torch.arange(1, 201, dtype=torch.uint8))


def test_flip_mirrors_about_half(images):
    flipped = on_images(flip, images, 0)
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    same = (flipped == images).flatten(1).all(1)
    assert torch.equal(mirrored, ~same)
    assert 160 < mirrored.sum() < 240


def test_cutout_blackens_one_clipped_square(images):
    """Pixels are at least 1 here, so that black ones are the hole."""
    images = images.new_full((2000, 3, 32, 32), 9)
    holes = (cutout(images, torch.Generator().manual_seed(0)) == 0).all(1)
    rows, columns = holes.any(2), holes.any(1)
    assert torch.equal(holes, rows[:, :, None] & columns[:, None, :])
    allowed = {
        tuple(range(max(c - 8, 0), min(c + 8, 32))): 0 for c in range(32)
    }  # the published code: [c - 8, c + 8), clipped
    for sides in (*rows, *columns):
        allowed[tuple(sides.nonzero()[:, 0].tolist())] += 1
    assert min(allowed.values()) > 60


@pytest.mark.parametrize("step", [crop, flip, of_images(cutout)])
def test_steps_leave_their_input_alone_and_follow_the_generator(images, step):
    before = images.clone()
    one, two, other = (on_images(step, images, s) for s in (3, 3, 4))
    assert torch.equal(images, before)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert one.dtype == torch.uint8 and one.shape == images.shape
