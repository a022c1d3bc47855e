"""Images and targets as arrays, Tensors or lists of equal length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from offramp.data._labels import MULTI_LABEL, Labels
from offramp.data._stored import StoredColumn
from offramp.data.asked import Asked
from offramp.data.targets import LABEL
from offramp.errors import UserError, an_object, shown

__all__ = ["ArrayRows"]


class ArrayRows:
    """A split of arrays: images, and one array for each target.

    Args:
        images: ``[N, H, W]`` (gray), ``[N, C, H, W]``, as an array also ``[N, H, W, C]``; or a list.
        targets: Name -> ``[N, ...]``; of one class, ``label``, ``[N]`` or ``[N, 1]``.
        name: Its name in errors.
        class_names: Names of the classes 0, 1, ..., if they have any.
        asked: The targets that are wanted; None: the class.

    Raises:
        UserError: Not as many labels as images, none at all, or several labels for an image.
    """

    random = False

    def __init__(
        self,
        images: Any,
        targets: Mapping[str, Any],
        name: str,
        class_names: tuple[str, ...] | None = None,
        asked: Mapping[str, Asked] | None = None,
    ) -> None:
        self.class_names, self.asked = class_names, asked
        self._images, self._targets, self._name = images, targets, name
        for key, values in targets.items():
            if not hasattr(values, "__len__"):
                raise UserError(f"{name}: {shown(key)} is {an_object(values)}; give a target for each image")
            if len(images) != len(values):
                words = "labels" if key == LABEL else f"of {shown(key)}"
                raise UserError(
                    f"{name}: {len(images)} images and {len(values)} {words}; give as many {words} as images"
                )
        if not len(images):
            raise UserError(f"{name} has no samples; give some")
        shape = () if asked is not None else getattr(targets[LABEL], "shape", ())
        if len(shape) > 1 and tuple(shape[1:]) != (1,) * (len(shape) - 1):
            raise UserError(f"{name}: labels of shape {tuple(shape)} are {MULTI_LABEL}; give labels [N]")

    def __len__(self) -> int:
        return len(self._images)

    def labels(self) -> Labels:
        """The labels as they are stored."""
        return Labels.of(as_list(self._targets[LABEL]), self.location)

    def column(self, name: str) -> StoredColumn:
        """The values of a target."""
        return StoredColumn.of(name, self._targets[name], self.location, self.class_names)

    def content(self, row: int) -> Any:
        """The image of a row."""
        return self._images[row]

    def names(self) -> None:
        """Nothing: samples in memory go by their order."""

    def location(self, row: int) -> str:
        """Name of a sample in an error: its number, from 0."""
        return f"{self._name}, sample {row}"


def as_list(labels: Any) -> Sequence[Any]:
    """Labels as plain Python values, all at once."""
    if isinstance(labels, torch.Tensor):
        labels = labels.detach().cpu()
    is_array = hasattr(labels, "tolist") and len(labels)
    values: Sequence[Any] = labels.reshape(len(labels)).tolist() if is_array else labels
    return values
