"""Image files as a model's input, decoded and resized as in training."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np

from offramp_runtime._decoding import OtherSize, UnusableImage, centre_square, check_square, decoded
from offramp_runtime._errors import InputError, shown
from offramp_runtime._fields import is_whole
from offramp_runtime._manifest import Image

__all__ = ["MOST_PIXELS", "read_image"]

MOST_PIXELS = (
    2**26
)  # 67 million, 0.2 GB as RGB; larger photos are rare, and a server decodes several at a time
LARGEST = 2**30  # bytes of a file
NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # a pipe opens at once, and is refused


def read_image(image: Image, source: str | os.PathLike[str] | bytes, most: int) -> np.ndarray:
    """The levels of an image file, uint8 ``[C, H, W]``: upright, with the channels and the size asked for.

    Args:
        image: What is asked for.
        source: The file's path, or its content.
        most: Pixels that are decoded at most.

    Raises:
        InputError: It is no whole image, one that cannot be converted, too large, or of another size; no
            path; or ``most`` no number of pixels.
    """
    if not is_whole(most):
        raise InputError(f"max_pixels is {shown(most)}, must be a whole number of at least 1")
    if isinstance(source, (bytes, bytearray, memoryview)):
        name, content = "", bytes(source)
    elif isinstance(source, (str, os.PathLike)):
        name = f"{os.fspath(source)}: "
        content = _content(Path(source), name)
    else:
        raise InputError(f"source is {shown(source)}, must be the path of an image file, or its bytes")
    try:
        picture = decoded(content, image.channels, None if image.cut else image.size, most)
        if image.cut:
            check_square(picture.height, picture.width, image.size[0], most)
            picture = centre_square(picture, image.size[0])
        elif (picture.height, picture.width) != image.size:
            raise OtherSize(picture.height, picture.width)
    except OtherSize as error:
        height, width = image.size
        raise InputError(
            f"{name}{error} where the model reads {width}x{height}; give an image of that size"
        ) from None
    except UnusableImage as error:
        raise InputError(f"{name}{error}") from None
    except ImportError:
        raise InputError(
            "image files are decoded by pillow, which is not installed: pip install 'offramp-runtime[images]'"
        ) from None
    levels = np.array(picture)
    return levels[None] if levels.ndim == 2 else np.ascontiguousarray(levels.transpose(2, 0, 1))


def _content(path: Path, name: str) -> bytes:
    try:
        with open(path, "rb", opener=lambda file, flags: os.open(file, flags | NO_WAIT)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError("it is no file")
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # the latter where the path holds a NUL
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name}cannot read the image ({reason}); give an image file") from None
    if len(content) > LARGEST:
        raise InputError(f"{name}it has more than 1 GiB; give an image file")
    return content
