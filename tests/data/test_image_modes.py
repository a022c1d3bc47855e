"""Images of every mode, depth and orientation, against Pillow."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from small_sets import noise

from offramp import UserError
from offramp.data import open_data
from offramp.data._pictures import picture, pixels
from offramp.data.decoding import UnusableImage

COLOUR = Image.fromarray(noise(1, size=(6, 9))[0])


def stored(image, kind="PNG", **more):
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def read(content, channels=None):
    return pixels(picture(content, channels)).numpy()


def of_pillow(image, mode):
    levels = np.array(image.convert(mode))
    return levels[None] if levels.ndim == 2 else levels.transpose(2, 0, 1)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    ("mode", "kind"),
    [("1", "PNG"), ("L", "PNG"), ("LA", "PNG"), ("RGB", "PNG"), ("RGBA", "PNG"), ("CMYK", "TIFF"),
     ("YCbCr", "JPEG")],
)  # fmt: skip
def test_every_mode_is_converted_as_pillow_does(mode, kind, channels):
    content = stored(COLOUR.convert(mode), kind)
    expected = of_pillow(Image.open(io.BytesIO(content)), {1: "L", 3: "RGB", 4: "RGBA"}[channels])
    assert np.array_equal(read(content, channels), expected)


def test_a_palette_is_looked_up_with_its_transparency():
    palette = COLOUR.quantize(8)
    content = stored(palette, transparency=2)
    assert np.array_equal(read(content), of_pillow(palette, "RGB"))
    opaque = np.where(np.array(palette) == 2, 0, 255)
    assert np.array_equal(read(content, 4)[3], opaque)


def test_sixteen_bits_become_eight_by_their_upper_half():
    levels = np.arange(0, 65536, 1213, dtype=np.uint16)[:54].reshape(6, 9)
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(read(stored(Image.fromarray(levels), kind), 1)[0], levels // 256)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_a_known_range_are_refused_by_name(mode):
    content = stored(COLOUR.convert("L").convert(mode), "TIFF")
    with pytest.raises(UnusableImage, match="whose range is not known; save it with 8 or 16 bits"):
        picture(content)


@pytest.mark.parametrize("turn", range(1, 9))
def test_the_orientation_of_a_camera_is_applied(turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    content = stored(COLOUR, "PNG", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert np.array_equal(read(content), of_pillow(expected, "RGB"))


def test_arrays_keep_their_levels_and_tell_their_channels():
    array = noise(1, size=(6, 9))[0]
    assert np.array_equal(read(array), array.transpose(2, 0, 1))
    assert np.array_equal(read(array.transpose(2, 0, 1)), array.transpose(2, 0, 1))
    assert read(array[:, :, 0]).shape == (1, 6, 9)
    twelve = np.zeros((8, 8, 12), np.float64)
    assert read(twelve, 12).shape == (12, 8, 8) and read(twelve, 12).dtype == np.float32
    with pytest.raises(UnusableImage, match="does not tell the axis of the channels"):
        picture(np.zeros((3, 8, 3), np.uint8))
    with pytest.raises(UnusableImage, match="not finite"):
        picture(torch.full((3, 4, 4), float("nan")))


def test_hidden_folders_are_no_data_at_any_depth(image_folder):
    folder = image_folder({"train": 3, "test": 1})
    for hidden in (folder / "train" / ".ipynb_checkpoints", folder / "train" / "cat" / ".thumbnails"):
        hidden.mkdir()
        (hidden / "x.png").write_bytes(b"no image")
    (folder / "train" / "cat" / ".DS_Store").write_bytes(b"")
    data = open_data(folder, val_fraction=0)
    assert data.classes == ("cat", "dog") and len(data.train) == 6


def test_one_remedy_makes_images_of_mixed_sizes_work(image_folder):
    folder = image_folder({"train": 3, "test": 1}, sizes=((8, 8), (9, 12)))
    with pytest.raises(UserError, match="`size=224`"):
        open_data(folder)
    data = open_data(folder, size=8)
    data.train.workers = 0
    assert data.input_size == (3, 8, 8)
