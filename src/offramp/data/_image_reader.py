"""How images are read: into memory, or as a stream where they are large."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from offramp.data._draws import seeded
from offramp.data._pictures import pixels
from offramp.data._rows import Rows, decode
from offramp.data._selection import Selection
from offramp.data._sources import MAX_BYTES
from offramp.data.image_data import ImageData
from offramp.data.split import Split
from offramp.data.stream import StreamSplit
from offramp.errors import UserError, shown

__all__ = ["ImageReader"]


@dataclass(frozen=True)
class ImageReader:
    """Reads images; the attributes are those of :func:`~offramp.data.opening.open_data`."""

    size: int | None
    channels: int | None

    def split(self, rows: Rows, selection: Selection) -> Split | StreamSplit:
        """Some rows with their targets: in memory, unless the images are large, or others at each reading."""
        stream = StreamSplit(rows, selection.rows, selection.targets, size=self.size, channels=self.channels)
        self._check_maps(rows, selection, stream.input_size)
        fits = len(selection) * math.prod(stream.input_size) * stream.dtype.itemsize <= MAX_BYTES
        return stream.decoded() if self.size is None and fits and not rows.random else stream

    def _check_maps(self, rows: Rows, selection: Selection, input_size: tuple[int, int, int]) -> None:
        """Check that maps are of the images' size, and are not left behind where images are cut."""
        for key, target in selection.targets.items():
            if not selection.targets.kinds[key].dense:
                continue
            if self.size is not None:
                raise UserError(
                    f"size={self.size} cuts images as they are read, and cannot cut their {key} along; leave "
                    "it out"
                )
            if target.shape[-2:] != input_size[1:]:
                (height, width), (_, high, wide) = target.shape[-2:], input_size
                raise UserError(
                    f"{rows.location(0)}: {shown(key)} is {width}x{height} pixels, and its image "
                    f"{wide}x{high}; give maps of the images' size"
                )

    def content(self, rows: Rows, row: int) -> bytes:
        """The pixels of an image as bytes."""
        with seeded(row):
            return pixels(decode(rows, row, self.channels)).contiguous().numpy().tobytes()

    def opened(self, **parts: Any) -> ImageData:
        """The opened set."""
        return ImageData(**parts)
