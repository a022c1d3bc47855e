"""Image files are decoded and resized as in training, to the bit, and hostile ones are refused."""

import io
import itertools
import os
import zlib

import numpy as np
import offramp_runtime
import pytest
from offramp_runtime import InputError
from offramp_runtime._images import read_image
from offramp_runtime._manifest import Image as Asked
from PIL import Image
from tiny_bundles import SIZE, ImageNet, write_bundle

from offramp.data.image_files import ImageReader

FORMS = [
    ("png", "RGB"), ("png", "RGBA"), ("png", "L"), ("png", "P"), ("png", "1"), ("png", "I;16"), ("png", "LA"),
    ("jpeg", "RGB"), ("jpeg", "L"), ("jpeg", "CMYK"), ("webp", "RGB"), ("gif", "P"), ("bmp", "RGB"),
    ("tiff", "RGB"),
]  # fmt: skip
ORIENTATION = 0x0112


def write(path, form, mode, size=(41, 29), orientation=None):
    width, height = size
    draws = np.random.default_rng(len(mode))
    levels = draws.integers(0, 256, (height, width, 4), dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(draws.integers(0, 2**16, (height, width), dtype=np.uint16))
    else:
        image = Image.fromarray(levels, "RGBA" if mode == "RGBA" else None).convert("RGB").convert(mode)
    exif = Image.Exif()
    if orientation is not None:
        exif[ORIENTATION] = orientation
    image.save(path, form, **({} if orientation is None else {"exif": exif}))
    return path


@pytest.mark.parametrize(("form", "mode"), FORMS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_form_is_read_as_in_training(tmp_path, form, mode, channels):
    path = write(tmp_path / f"image.{form}", form, mode)
    for size, cut in (((29, 41), False), ((16, 16), True), ((64, 64), True)):
        expected = ImageReader((channels, *size), cut=cut).read(path).numpy()
        for source in (path, str(path), path.read_bytes()):
            found = read_image(Asked(channels, size, cut), source, 2**27)
            assert found.dtype == np.uint8
            assert found.flags.c_contiguous
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_as_in_training(tmp_path, orientation):
    path = write(tmp_path / "photo.jpeg", "jpeg", "RGB", orientation=orientation)
    turned = (41, 29) if orientation >= 5 else (29, 41)
    for size, cut in ((turned, False), ((24, 24), True)):
        expected = ImageReader((3, *size), cut=cut).read(path).numpy()
        np.testing.assert_array_equal(read_image(Asked(3, size, cut), path, 2**27), expected)


@pytest.mark.parametrize("size", list(itertools.product((1, 2, 7, 300), (1, 3, 200))))
def test_every_size_is_cut_as_in_training(tmp_path, size):
    path = write(tmp_path / "image.png", "png", "RGB", size)
    np.testing.assert_array_equal(
        read_image(Asked(3, (8, 8), True), path, 2**27), ImageReader((3, 8, 8), cut=True).read(path).numpy()
    )


def png(width, height):
    """A PNG file of an image whose header says more than the file holds."""
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "png")
    content = bytearray(file.getvalue())
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "in no known format"),
        (b"no image", "in no known format"),
        (png(10000, 10000), "more than the 67.1 million pixels"),
        (png(2**31 - 1, 2**31 - 1), "cannot decode the image|more than the 67.1 million pixels"),
        (png(8, 10**6), "more than the 67.1 million pixels|cannot decode"),
        (png(50, 50), "cannot decode the image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "a program in PostScript"),
    ],
)
def test_hostile_images_are_refused(images, content, says):
    with pytest.raises(InputError, match=says) as refused:
        images.model.image_of(content)
    assert "\n" not in str(refused.value)


def test_images_that_are_cut_off_are_refused(images, tmp_path):
    content = write(tmp_path / "image.jpeg", "jpeg", "RGB").read_bytes()
    for end in range(0, len(content) - 2, max(1, len(content) // 20)):
        with pytest.raises(InputError, match="cannot decode the image"):
            images.model.image_of(content[:end])
    assert images.model.image_of(content).shape == (3, SIZE, SIZE)
    with pytest.raises(InputError, match=r"more than the 0\.001 million pixels"):
        images.model.image_of(content, max_pixels=1000)


def test_what_is_no_image_file_is_named(images, words, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, says in (
        (tmp_path / "none.png", "No such file"),
        (tmp_path, "directory"),
        (tmp_path / "pipe", "it is no file"),
        ("a\0b", "null"),
        (None, "source is None, must be the path of an image file, or its bytes"),
        (np.zeros((SIZE, SIZE, 3), np.uint8), "source is array"),
    ):
        with pytest.raises(InputError, match=says):
            images.model.image_of(path)
    for pixels in (0, 1.5, "many"):
        with pytest.raises(InputError, match=r"max_pixels is .*, must be a whole number"):
            images.model.image_of(b"", max_pixels=pixels)
    with pytest.raises(InputError, match="the model reads no images"):
        words.model.image_of(b"")


def test_images_that_are_not_cut_must_be_of_the_size(tmp_path):
    net = ImageNet()
    net.image = {**net.image, "cut": False}
    model = offramp_runtime.load(write_bundle(tmp_path / "bundle", net))
    path = write(tmp_path / "image.png", "png", "RGB", (SIZE, SIZE))
    assert model.image_of(path).shape == (3, SIZE, SIZE)
    path = write(tmp_path / "image.png", "png", "RGB", (SIZE, SIZE + 1))
    with pytest.raises(InputError, match=r"image.png: 6x7 pixels where the model reads 6x6"):
        model.image_of(path)
