"""Image folders: ``train/<class>/*.png``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from offramp.data._files import files_below, hidden, read_regular
from offramp.data._labels import Labels
from offramp.data._stored import StoredColumn
from offramp.data.asked import Asked
from offramp.data.class_names import class_names
from offramp.errors import UserError

__all__ = ["FolderRows", "image_files", "read_image"]

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}


class FolderRows:
    """The images under one split's folder; each subfolder is a class, and its own subfolders belong to it.

    What begins with a dot, file or folder, is none of the data.

    Args:
        folder: E.g. ``.../train``.
        asked: The targets that are asked for, whose only column is ``label``; None: the class.

    Raises:
        UserError: No class folders, one without images, or one whose name no class can have.
    """

    random = False

    def __init__(self, folder: Path, asked: Mapping[str, Asked] | None = None) -> None:
        self.asked, self._folder = asked, folder
        folders = sorted(p.name for p in folder.iterdir() if p.is_dir() and not hidden(p))
        if not folders:
            raise UserError(f"{folder} has no class folders; put its images into {folder.name}/<class>/")
        self.class_names = class_names(folders, str(folder), whose="class folder")
        self._paths: list[Path] = []
        codes: list[int] = []
        for code, name in enumerate(folders):
            images = image_files(folder / name)
            if not images:
                raise UserError(f"{folder / name} holds no images; fill or remove the class folder")
            self._paths += images
            codes += [code] * len(images)
        self._labels = Labels(folders, np.array(codes, np.int64))

    def __len__(self) -> int:
        return len(self._paths)

    def labels(self) -> Labels:
        """The names of the class folders."""
        return self._labels

    def column(self, name: str) -> StoredColumn:
        """The name of each image's class folder."""
        values = [self.class_names[code] for code in self._labels.codes]
        return StoredColumn(name, values, self.location, self.class_names)

    def content(self, row: int) -> bytes:
        """One image file's content.

        Raises:
            UserError: It is a folder, a link to nothing, or not to be read.
        """
        return read_image(self._paths[row], self.location(row))

    def names(self) -> list[str]:
        """The paths of the image files from the split's folder on, and their sizes in bytes."""
        start = len(str(self._folder)) + 1
        return [f"{str(path)[start:].replace(os.sep, '/')} {_size(path)}" for path in self._paths]

    def location(self, row: int) -> str:
        """The image file of a row."""
        return str(self._paths[row])


def _size(path: Path) -> int:
    """Bytes of a file; -1 of what is none, which is said when it is read."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def read_image(path: Path, location: str) -> bytes:
    """The content of an image file.

    Raises:
        UserError: It is no file, a link to nothing, larger than 1 GiB, or not to be read; the line begins
            with `location`.
    """
    try:
        return read_regular(path)
    except (OSError, ValueError) as error:  # a text with a null character is no path
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{location}: cannot read the image ({reason}); replace or remove it") from error


def image_files(folder: Path) -> list[Path]:
    """The image files in a folder and its subfolders in order, by their endings; not what is hidden.

    Raises:
        UserError: A folder cannot be listed.
    """
    try:
        return sorted(files_below(folder, SUFFIXES))
    except OSError as error:
        raise UserError(
            f"{error.filename or folder}: cannot list the folder ({error.strerror}); mend or remove it"
        ) from error
