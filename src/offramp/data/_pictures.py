"""Conversion of one image of any kind into an upright image with levels 0 ... 255 (8 bits) or floats.

Image files and PIL images become gray, RGB or RGBA of 8 bits (:mod:`offramp.data.decoding`).

Arrays and Tensors are taken as they are: 8 bits stay 8 bits, every other number becomes a float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Union

import numpy as np
import torch
from torch import Tensor

from offramp.data._extra import extra
from offramp.data.decoding import OtherSize, UnusableImage, decoded
from offramp.errors import an_object

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Picture", "picture", "pixels", "size_of"]

Picture = Union["Image", Tensor]  # a Tensor is [C, H, W], uint8 or float32

CHANNEL_COUNTS = (1, 2, 3, 4)  # an axis of such a length holds the channels, unless the other end has one too


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
        extra("PIL.Image")  # says which extra brings it
        found: Picture = decoded(stored, channels, size)
    elif hasattr(stored, "shape") or isinstance(stored, list):
        found = _tensor(stored, channels)
    else:
        text = ", or for texts their tokenizer by `tokenizer=...`" if isinstance(stored, str) else ""
        raise UnusableImage(f"{an_object(stored)} is no image; give a PIL image, an array or a Tensor{text}")
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
