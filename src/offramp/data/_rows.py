"""A split as it is stored: images or texts and labels one by one, nothing decoded yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from offramp.data._labels import Labels
from offramp.data._pictures import Picture, picture, size_of
from offramp.data._stored import StoredColumn
from offramp.data.asked import Asked
from offramp.data.decoding import OtherSize, UnusableImage, check_square
from offramp.errors import UserError

__all__ = ["Rows", "decode"]


class Rows(Protocol):
    """A split in any kind of storage: its images or texts and its labels, one by one."""

    random: bool  # whether an image is another one each time it is read
    asked: Mapping[str, Asked] | None  # the targets that are wanted, or brought by name; None: one class

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes 0, 1, ...; None if they have none."""

    def __len__(self) -> int: ...

    def labels(self) -> Labels:
        """The labels as they are stored."""

    def column(self, name: str) -> StoredColumn:
        """The values of a target's column.

        Raises:
            UserError: There is no such column.
        """

    def content(self, row: int) -> Any:
        """A row as it is stored: an image (a file's content, PIL, an array or a Tensor), or a text."""

    def names(self) -> Sequence[str] | None:
        """What tells the rows apart, wherever the data lie, and without a look at an image; None: nothing."""

    def location(self, row: int) -> str:
        """The name of a row in an error."""


def decode(
    rows: Rows,
    row: int,
    channels: int | None = None,
    size: tuple[int, int, int] | None = None,
    *,
    square: int | None = None,
) -> Picture:
    """Decode the image of a row: upright, with levels 0 ... 255 or floats.

    Args:
        rows: The split that holds it.
        row: The row's number.
        channels: Number of channels that it must have; image files and PIL images are
            converted, and have 3 by default.
        size: The channels, height and width that it must have, if any.
        square: The side of the square that will be cut out of it, if any.

    Raises:
        UserError: It is no whole image, of a kind that cannot be converted, or of another size.
    """
    try:
        image = picture(rows.content(row), channels, size and size[1:])
        if square is not None:
            check_square(*size_of(image)[1:], square)
    except OtherSize as error:
        _, height, width = size or (0, 0, 0)
        raise UserError(
            f"{rows.location(row)}: {error} where others have {width}x{height}; "
            "have all cut to squares of one size as they are read, e.g. by `size=224`"
        ) from error
    except UnusableImage as error:
        raise UserError(f"{rows.location(row)}: {error}") from error
    actual = size_of(image)[0]
    if size and actual != size[0]:
        raise UserError(
            f"{rows.location(row)}: {actual} channels where others have {size[0]}; give all of them as many"
        )
    return image
