"""Conversion of one image of any kind into an upright image with levels 0 ... 255 (8 bits) or floats.

Image files and PIL images are turned as their EXIF orientation says and become gray, RGB or RGBA of 8 bits:

- gray becomes colour by repetition, colour becomes gray by its luma (ITU-R 601-2), palettes are looked up,
  CMYK and YCbCr go by Pillow's formulas, 1 bit becomes 0 and 255;
- 16 bits become 8 by their upper half;
- transparency is dropped, and opaque where four channels are asked for and the image has none;
- of several frames the first counts;
- 32-bit whole numbers and floats have no known range, and are refused, as is what has more than 2^27 pixels
  (134 million); the header tells, before anything is decoded.

Arrays and Tensors are taken as they are: 8 bits stay 8 bits, every other number becomes a float32.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import torch
from torch import Tensor

from offramp.data._extra import extra
from offramp.errors import error_text

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "LARGEST",
    "TOO_LARGE",
    "OtherSize",
    "Picture",
    "UnusableImage",
    "check_header",
    "picture",
    "pixels",
    "size_of",
]

Picture = Union["Image", Tensor]  # a Tensor is [C, H, W], uint8 or float32

# Photos of 100 million pixels exist; one of this size takes 0.4 GB as RGB, and 1 GB while it is converted.
LARGEST = 2**27
TOO_LARGE = "more than the 134 million pixels that are decoded; make it smaller, or cut it into parts"
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
ORIENTATION = 0x0112
CHANNEL_COUNTS = (1, 2, 3, 4)  # an axis of such a length holds the channels, unless the other end has one too
# Pillow's own exif_transpose also writes the metadata anew, which fails where a camera left them damaged.
TURNS = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270",
         7: "TRANSVERSE", 8: "ROTATE_90"}  # fmt: skip


class UnusableImage(ValueError):
    """An image that cannot be used, with the reason and the remedy."""


class OtherSize(UnusableImage):
    """An image of another size than the one that is needed; a file's is not decoded to find that out."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__(f"{width}x{height} pixels")


def picture(stored: Any, channels: int | None = None, size: tuple[int, int] | None = None) -> Picture:
    """An image of any kind as 8-bit levels or floats.

    Args:
        stored: A file's content, a PIL image, or an array or Tensor: ``[H, W]``, ``[C, H, W]``, and for an
            array also ``[H, W, C]``.
        channels: Number of channels that the image shall have; None: 3 for files and PIL images.
        size: The height and width that it must have; None: any.

    Raises:
        OtherSize: It has another size.
        UnusableImage: It is no image, none that can be converted, or one of more than 134 million pixels.
    """
    if isinstance(stored, (bytes, bytearray, memoryview)) or hasattr(stored, "getbands"):
        found: Picture = _of_file(stored, channels, size)
    elif hasattr(stored, "shape") or isinstance(stored, list):
        found = _tensor(stored, channels)
    else:
        text = ", or for texts their tokenizer by `tokenizer=...`" if isinstance(stored, str) else ""
        raise UnusableImage(
            f"a {type(stored).__name__} is no image; give a PIL image, an array or a Tensor{text}"
        )
    _, height, width = size_of(found)
    if size not in (None, (height, width)):
        raise OtherSize(height, width)
    return found


def size_of(image: Picture) -> tuple[int, int, int]:
    """Channels, height and width of an image."""
    if isinstance(image, Tensor):
        channels, height, width = image.shape
        return channels, height, width
    return len(image.getbands()), image.height, image.width


def pixels(image: Picture) -> Tensor:
    """An image as a Tensor ``[C, H, W]``, uint8 or float32."""
    if isinstance(image, Tensor):
        return image
    levels = torch.from_numpy(np.array(image))
    return levels[None] if levels.ndim == 2 else levels.permute(2, 0, 1)


def _of_file(stored: Any, channels: int | None, size: tuple[int, int] | None) -> Image:
    """A file's content or a PIL image, which need not be decoded yet, as 8-bit levels."""
    pil = extra("PIL.Image")
    try:
        image = stored if hasattr(stored, "getbands") else _opened(stored)
        check_header(image, size)
        return _converted(image, channels)
    except (UnusableImage, MemoryError):
        raise
    except Exception as error:  # the codecs raise OSError, SyntaxError, EOFError, struct.error, ...
        unknown = isinstance(error, pil.UnidentifiedImageError)
        reason = "in no known format" if unknown else error_text(error)
        raise UnusableImage(f"cannot decode the image ({reason}); replace or remove it") from error


def _opened(content: bytes | bytearray | memoryview) -> Image:
    """A file's image, of which the header is read."""
    pil = extra("PIL.Image")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pil.DecompressionBombWarning)  # above 89 million pixels
        try:
            opened: Image = pil.open(io.BytesIO(content))
        except pil.DecompressionBombError as error:  # above twice as many
            raise UnusableImage(TOO_LARGE) from error
    return opened


def check_header(image: Image, size: tuple[int, int] | None = None) -> None:
    """Refuse an image that shall not be decoded, by its header.

    Args:
        image: A PIL image, decoded or not.
        size: The height and width that it must have; None: any.

    Raises:
        OtherSize: It has another size.
        UnusableImage: It has no pixels or too many, or is a program.
    """
    if image.format == "EPS":
        raise UnusableImage("a program in PostScript, which is not run; save what it draws as a PNG file")
    if image.width * image.height > LARGEST:
        raise UnusableImage(f"{image.width}x{image.height} pixels: {TOO_LARGE}")
    if not image.width * image.height:
        raise UnusableImage("it has no pixels; replace or remove it")
    if size is not None and {*size} != {image.height, image.width}:  # it may yet be turned
        raise OtherSize(image.height, image.width)


def _converted(image: Image, channels: int | None) -> Image:
    mode = MODES.get(3 if channels is None else channels)
    if mode is None:
        raise UnusableImage(
            f"an image file has 1, 3 or 4 channels, not {channels}; give arrays, or take a net that reads 3"
        )
    if turn := TURNS.get(image.getexif().get(ORIENTATION, 1)):
        image = image.transpose(getattr(extra("PIL.Image").Transpose, turn))
    is_16_bit = image.mode == "I" and image.format in ("PNG", "PPM")  # 16 bits, as older Pillows open them
    if image.mode.startswith("I;16") or is_16_bit:
        image = extra("PIL.Image").fromarray((np.asarray(image) >> 8).astype(np.uint8))
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


def _tensor(stored: Any, channels: int | None) -> Tensor:
    try:
        values = stored.detach().cpu() if isinstance(stored, Tensor) else torch.from_numpy(np.array(stored))
    except (TypeError, ValueError) as error:  # of objects, of texts, or ragged
        raise UnusableImage(
            f"an array of no numbers ({' '.join(str(error).split())}); give one of levels or floats"
        ) from error
    if values.is_complex() or values.ndim not in (2, 3) or not values.numel():
        raise UnusableImage(
            f"of shape {tuple(values.shape)} and {str(values.dtype).removeprefix('torch.')}, "
            "which is no image; give [channels, height, width]"
        )
    values = values[None] if values.ndim == 2 else values.movedim(_channel_axis(stored, channels), 0)
    if channels not in (None, len(values)):
        raise UnusableImage(
            f"of shape {tuple(values.shape)}, and {channels} channels are to be read; give so many, in front"
        )
    if values.dtype == torch.uint8:
        return values
    values = values.float()
    if not values.isfinite().all():
        raise UnusableImage("it holds values that are not finite; replace them")
    return values


def _channel_axis(stored: Any, channels: int | None) -> int:
    """Axis of the channels, 0 or 2: of a Tensor the first; of an array the one with a number of channels."""
    if isinstance(stored, Tensor):
        return 0
    shape = np.shape(stored)
    first_fits, last_fits = (n == channels if channels else n in CHANNEL_COUNTS for n in (shape[0], shape[2]))
    if first_fits == last_fits:
        raise UnusableImage(
            f"an array of shape {shape}, which does not tell the axis of the channels; "
            "give a Tensor [channels, height, width]"
        )
    return 0 if first_fits else 2
