"""Image files as upright images with levels 0 ... 255, and the square that is cut out of their middle.

Image files and PIL images are turned as their EXIF orientation says and become gray, RGB or RGBA of 8 bits:

- gray becomes colour by repetition, colour becomes gray by its luma (ITU-R 601-2), palettes are looked up,
  CMYK and YCbCr go by Pillow's formulas, 1 bit becomes 0 and 255;
- 16 bits become 8 by their upper half;
- transparency is dropped, and opaque where four channels are asked for and the image has none;
- of several frames the first counts;
- 32-bit whole numbers and floats have no known range, and are refused, as is what has more than 2^27 pixels
  (134 million); the header tells, before anything is decoded.

Files of other formats than ``FORMATS`` are not read: Pillow knows some whose header does not tell what will
be decoded (icons), and some that it decodes pixel by pixel in Python (FITS).

The runtime that serves exported nets carries this file, so it imports pillow alone, and that late.
"""

from __future__ import annotations

import io
import re
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "FORMATS",
    "LARGEST",
    "MODES",
    "OtherSize",
    "UnusableImage",
    "centre",
    "centre_square",
    "check_header",
    "check_square",
    "decoded",
]

# Photos of 100 million pixels exist; one of this size takes 0.4 GB as RGB, and 1 GB while it is converted.
LARGEST = 2**27
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
SCANS = 100  # of a JPEG file, each of which passes over all pixels; progressive ones have some ten
MARKER = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")  # of a segment or the end, not those within a scan
TILE = (322, 323)  # TIFF tags: width and length of a tile
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
BILINEAR = 2  # PIL.Image.Resampling.BILINEAR
ORIENTATION = 0x0112
# Pillow's own exif_transpose also writes the metadata anew, which fails where a camera left them damaged.
TURNS = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270",
         7: "TRANSVERSE", 8: "ROTATE_90"}  # fmt: skip


class UnusableImage(ValueError):
    """An image that cannot be used, with the reason and the remedy."""


class OtherSize(UnusableImage):
    """An image of another size than the one that is needed; a file's is not decoded to find that out."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__(f"{width}x{height} pixels")


def decoded(
    stored: Any, channels: int | None = None, size: tuple[int, int] | None = None, most: int = LARGEST
) -> Image:
    """A file's content or a PIL image, which need not be decoded yet, as 8-bit levels.

    Args:
        stored: Either.
        channels: Number of channels that the image shall have; None: 3.
        size: The height and width that it must have, but for its being turned; None: any.
        most: Pixels that are decoded at most.

    Raises:
        OtherSize: It has another size.
        UnusableImage: It is no image, none that can be converted, or too large.
        ImportError: Pillow is not installed.
    """
    pil = import_module("PIL.Image")
    try:
        image = stored if hasattr(stored, "getbands") else _opened(stored, most)
        check_header(image, size, most)
        converted = _converted(image, channels)
        converted.load()  # one that needs no conversion is not decoded yet, and may be cut off
        return converted
    except (UnusableImage, MemoryError):
        raise
    except Exception as error:  # the codecs raise OSError, SyntaxError, EOFError, struct.error, ...
        unknown = isinstance(error, pil.UnidentifiedImageError)
        text = " ".join(str(error).split()) or type(error).__name__
        reason = f"in no known format: {', '.join(FORMATS)}" if unknown else text[:200]
        raise UnusableImage(f"cannot decode the image ({reason}); replace or remove it") from error


def _opened(content: bytes | bytearray | memoryview, most: int) -> Image:
    """A file's image, of which the header is read."""
    pil = import_module("PIL.Image")
    pil.init()
    known = [name for name in (*FORMATS, "EPS") if name in pil.OPEN]  # an EPS file is refused by its name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pil.DecompressionBombWarning)  # above 89 million pixels
        try:
            opened: Image = pil.open(io.BytesIO(content), formats=known)
        except pil.DecompressionBombError as error:  # above twice as many
            raise UnusableImage(_too_large(most)) from error
    if opened.format in ("JPEG", "MPO") and _many_scans(content):
        raise UnusableImage(f"it passes over its pixels more than {SCANS} times; save it anew")
    return opened


def _many_scans(jpeg: bytes | bytearray | memoryview) -> bool:
    """Whether a JPEG file has more than ``SCANS`` scans up to the end of its (first) image."""
    place, scans = 2, 0
    while scans <= SCANS and (marker := MARKER.search(jpeg, place)) and marker[1] != b"\xd9":
        scans += marker[1] == b"\xda"
        place = marker.end() + int.from_bytes(jpeg[marker.end() : marker.end() + 2], "big")
    return scans > SCANS


def check_header(image: Image, size: tuple[int, int] | None = None, most: int = LARGEST) -> None:
    """Refuse an image that shall not be decoded, by its header.

    Args:
        image: A PIL image, decoded or not.
        size: The height and width that it must have; None: any.
        most: Pixels that are decoded at most.

    Raises:
        OtherSize: It has another size.
        UnusableImage: It has no pixels or too many, or is a program.
    """
    if image.format == "EPS":
        raise UnusableImage("a program in PostScript, which is not run; save what it draws as a PNG file")
    width, height = _decoded_size(image)
    if width * height > most:
        raise UnusableImage(f"{width}x{height} pixels: {_too_large(most)}")
    if not image.width * image.height:
        raise UnusableImage("it has no pixels; replace or remove it")
    if size is not None and {*size} != {image.height, image.width}:  # it may yet be turned
        raise OtherSize(image.height, image.width)


def _decoded_size(image: Image) -> tuple[int, int]:
    """The width and the height of what is decoded: of a TIFF file in tiles, those of all its tiles."""
    tags = getattr(image, "tag_v2", {})
    sides = [tags.get(tag, 1) for tag in TILE]
    width, height = (-(-whole // side) * side for whole, side in zip(image.size, sides, strict=True))
    return width, height


def _converted(image: Image, channels: int | None) -> Image:
    mode = MODES.get(3 if channels is None else channels)
    if mode is None:
        raise UnusableImage(
            f"an image file has 1, 3 or 4 channels, not {channels}; give arrays, or take a net that reads 3"
        )
    if turn := TURNS.get(image.getexif().get(ORIENTATION, 1)):
        image = image.transpose(getattr(import_module("PIL.Image").Transpose, turn))
    is_16_bit = image.mode == "I" and image.format in ("PNG", "PPM")  # 16 bits, as older Pillows open them
    if image.mode.startswith("I;16") or is_16_bit:
        image = import_module("PIL.Image").fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        kind = "32-bit whole numbers" if image.mode == "I" else "floats"
        raise UnusableImage(
            f"its pixels are {kind}, whose range is not known; save it with 8 or 16 bits, or give arrays"
        )
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # with the palette's transparency, which Pillow would warn of
    try:
        return image if image.mode == mode else image.convert(mode)
    except ValueError as error:
        raise UnusableImage(
            f"its colours are {image.mode}, which are not converted to {mode}; save it as {mode}"
        ) from error


def centre(height: int, width: int, size: int) -> tuple[int, int, int, int]:
    """Where the square in the middle of an image is.

    Args:
        height: Of the image.
        width: Likewise.
        size: Side of the square.

    Returns:
        Height and width that the image is resized to, the shorter of which is 256/224 of the square's side;
        left and top of the square then.
    """
    shorter = round(size * 256 / 224)
    scale = shorter / min(height, width)
    height, width = (max(shorter, int(side * scale)) for side in (height, width))
    return height, width, round((width - size) / 2), round((height - size) / 2)


def check_square(height: int, width: int, size: int, most: int = LARGEST) -> None:
    """Check that a square can be cut out of an image, which is resized for it.

    Raises:
        UnusableImage: It is so long that it would have too many pixels then.
    """
    high, wide, _, _ = centre(height, width, size)
    if high * wide > most:
        raise UnusableImage(
            f"{width}x{height} pixels, which are {wide}x{high} when they are resized to be cut to "
            f"{size}x{size}: {_too_large(most)}"
        )


def centre_square(image: Image, size: int) -> Image:
    """The square in the middle of a resized image."""
    height, width, left, top = centre(image.height, image.width, size)
    return image.resize((width, height), BILINEAR).crop((left, top, left + size, top + size))


def _too_large(most: int) -> str:
    millions = f"{most / 1e6:.3g} million"
    return f"more than the {millions} pixels that are decoded; make it smaller, or cut it into parts"
