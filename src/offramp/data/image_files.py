"""Image files of no data set, read as the images of one are."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from offramp.data._folder import image_files, read_image
from offramp.data._geometry import centre_crop
from offramp.data._pictures import picture, pixels, size_of
from offramp.data.decoding import MODES, OtherSize, UnusableImage, check_square
from offramp.errors import UserError, shown
from offramp.paths import user_path

__all__ = ["MODES", "ImageReader", "find_images"]


def find_images(places: Iterable[str | Path]) -> list[Path]:
    """Image files by their names, and all those in folders and their subfolders, in order.

    A file is taken whatever its ending; of a folder, what ends as image files do and is not hidden.

    Raises:
        UserError: No place is given, one is not there, or a folder holds no images.
    """
    found: dict[Path, None] = {}  # each once, in order
    for place in map(user_path, places):
        if not os.path.exists(place):
            raise UserError(f"no such file or folder: {shown(place)}; give image files, or folders of them")
        files = image_files(place) if place.is_dir() else [place]
        if not files:
            raise UserError(f"{place} holds no images, nor do its subfolders; give a folder that does")
        found |= dict.fromkeys(files)
    if not found:
        raise UserError("no images given; give image files, or folders of them")
    return [*found]


@dataclass(frozen=True)
class ImageReader:
    """Reads image files: upright, with as many channels as asked for, of one size.

    Attributes:
        input_size: Channels, height and width of every image.
        cut: Cut images of any size to that square, as those of a set with the setting ``size`` are; False:
            images must be of that size.

    Raises:
        UserError: Image files have no such number of channels, or nothing is cut to that shape.
    """

    input_size: tuple[int, int, int]
    cut: bool = False

    def __post_init__(self) -> None:
        channels, height, width = self.input_size
        if channels not in MODES:
            raise UserError(
                f"the net reads images of {channels} channels, and image files have 1, 3 or 4; "
                "give it Tensors in Python, by offramp.Router"
            )
        if self.cut and height != width:
            raise UserError(
                f"the net reads images of {width}x{height} pixels, and images are cut to squares only; "
                "give images of that size"
            )

    def read(self, path: Path) -> Tensor:
        """The levels of an image file, uint8 ``[C, H, W]``.

        Raises:
            UserError: It is no whole image, one that cannot be converted, or of another size.
        """
        channels, height, width = self.input_size
        try:
            image = picture(read_image(path, str(path)), channels, None if self.cut else (height, width))
            if self.cut:
                check_square(*size_of(image)[1:], height)
        except OtherSize as error:
            square = "; have images cut to squares by `cut=True`" if height == width else ""
            raise UserError(
                f"{path}: {error} where the net reads {width}x{height}"
                f"{square or '; give images of that size'}"
            ) from error
        except UnusableImage as error:
            raise UserError(f"{path}: {error}") from error
        return pixels(centre_crop(image, height) if self.cut else image)
