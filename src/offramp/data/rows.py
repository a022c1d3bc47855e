"""A split as it is stored: encoded images and raw labels, nothing decoded yet."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from offramp.data.extra import extra
from offramp.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Rows", "checked_labels", "decode"]


class Rows(Protocol):
    """What a kind of storage offers."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The classes in the order of the labels; None: they have no names."""

    def __len__(self) -> int: ...

    def labels(self) -> np.ndarray:
        """The labels as they are stored, int64 ``[N]``; a missing one is an error."""

    def encoded(self, row: int) -> bytes:
        """One image's file content."""

    def where(self, row: int) -> str:
        """How an error names the row."""


def checked_labels(rows: Rows, classes: Sequence[str]) -> Tensor:
    """The labels as int64 ``[N]``.

    Raises:
        UserError: A label is not in 0 ... len(classes) - 1.
    """
    labels = rows.labels()
    wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(wrong):
        raise UserError(
            f"{rows.where(int(wrong[0]))}: label {labels[wrong[0]]} is out of range 0 ... {len(classes) - 1} "
            f"({len(wrong)} such rows); correct the labels or the class names"
        )
    return torch.from_numpy(labels)


def decode(rows: Rows, row: int, size: tuple[int, int] | None = None) -> Image:
    """One image as PIL, RGB.

    Args:
        rows: Where it is stored.
        row: Which one.
        size: The width and height that it must have, if any.

    Raises:
        UserError: The bytes are no whole image, or one of another size.
    """
    pil = extra("PIL.Image")
    content = rows.encoded(row)
    try:
        image = pil.open(io.BytesIO(content)).convert("RGB")
    except Exception as error:  # the codecs raise OSError, SyntaxError, EOFError, struct.error, ...
        reason = "in no known format" if isinstance(error, pil.UnidentifiedImageError) else error
        raise UserError(
            f"{rows.where(row)}: cannot decode the image ({reason}); replace or remove it"
        ) from error
    if size and image.size != size:
        raise UserError(
            f"{rows.where(row)}: {image.width}x{image.height} pixels where others have {size[0]}x{size[1]}; "
            "make them one size, or have all cut to one as they are read, by size=224 in the recipe "
            "or open_data(..., size=224)"
        )
    return image
