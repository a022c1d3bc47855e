"""A split as it is stored: images and labels one by one, nothing decoded yet."""

from __future__ import annotations

from typing import Any, Protocol

from offramp.data.labels import Labels
from offramp.data.pictures import Picture, Unfit, picture, size_of
from offramp.errors import UserError

__all__ = ["Rows", "decode"]


class Rows(Protocol):
    """A split in any kind of storage: its images and labels, one by one."""

    random: bool  # whether an image is another one each time it is read

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes 0, 1, ...; None if they have none."""

    def __len__(self) -> int: ...

    def labels(self) -> Labels:
        """The labels as they are stored."""

    def stored(self, row: int) -> Any:
        """One image: a file's content, a PIL image, an array or a Tensor."""

    def where(self, row: int) -> str:
        """The name of a row in an error."""


def decode(
    rows: Rows, row: int, channels: int | None = None, size: tuple[int, int, int] | None = None
) -> Picture:
    """One image, upright, with levels 0 ... 255 or floats.

    Args:
        rows: Where it is stored.
        row: The row's number.
        channels: How many it must have; image files and PIL images are converted, and have 3 by default.
        size: The channels, height and width that it must have, if any.

    Raises:
        UserError: It is no whole image, of a kind that cannot be converted, or of another size.
    """
    stored = rows.stored(row)
    try:
        image = picture(stored, channels)
    except Unfit as error:
        raise UserError(f"{rows.where(row)}: {error}") from error
    found = size_of(image)
    if size and found[1:] != size[1:]:
        raise UserError(
            f"{rows.where(row)}: {found[2]}x{found[1]} pixels where others have {size[2]}x{size[1]}; "
            "have all cut to squares of one size as they are read, e.g. by `size=224`"
        )
    if size and found[0] != size[0]:
        raise UserError(
            f"{rows.where(row)}: {found[0]} channels where others have {size[0]}; give all of them as many"
        )
    return image
