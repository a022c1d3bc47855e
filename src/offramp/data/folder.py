"""Image folders: ``train/<class>/*.png``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from offramp.errors import UserError

__all__ = ["FolderRows"]

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp"}


class FolderRows:
    """The images under one split's folder; each subfolder is a class, and its own subfolders belong to it.

    Args:
        folder: E.g. ``.../train``.
        classes: The training set's classes, for a test folder; by default, the subfolders in order of name.

    Raises:
        UserError: No class folders, one without images, or one that is not among `classes`.
    """

    def __init__(self, folder: Path, classes: tuple[str, ...] | None = None) -> None:
        found = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        if not found:
            raise UserError(f"{folder} has no class folders; put its images into {folder.name}/<class>/")
        self.class_names: tuple[str, ...] = tuple(found) if classes is None else classes
        self._paths: list[Path] = []
        labels: list[int] = []
        for name in found:
            if name not in self.class_names:
                raise UserError(
                    f"{folder / name}: the training set has no class {name!r}; rename or remove it"
                )
            images = sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in SUFFIXES)
            if not images:
                raise UserError(f"{folder / name} holds no images; fill or remove the class folder")
            self._paths += images
            labels += [self.class_names.index(name)] * len(images)
        self._labels = np.array(labels, np.int64)

    def __len__(self) -> int:
        return len(self._paths)

    def labels(self) -> np.ndarray:
        """Class indices, int64 ``[N]``."""
        return self._labels

    def encoded(self, row: int) -> bytes:
        """One image file's content.

        Raises:
            UserError: It is a folder, a link to nothing, or not to be read.
        """
        try:
            return self._paths[row].read_bytes()
        except OSError as error:
            raise UserError(
                f"{self.where(row)}: cannot read the image ({error.strerror}); replace or remove it"
            ) from error

    def where(self, row: int) -> str:
        """The image file."""
        return str(self._paths[row])
