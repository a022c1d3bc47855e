"""Images and labels as two arrays, Tensors or lists of equal length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from offramp.data._labels import MULTI_LABEL, Labels
from offramp.errors import UserError

__all__ = ["ArrayRows"]


class ArrayRows:
    """A split of two arrays: images and labels.

    Args:
        images: ``[N, H, W]`` (gray), ``[N, C, H, W]``, as an array also ``[N, H, W, C]``; or a list.
        labels: ``[N]`` or ``[N, 1]``.
        name: Its name in errors.
        class_names: Names of the classes 0, 1, ..., if they have any.

    Raises:
        UserError: Not as many labels as images, none at all, or several labels for an image.
    """

    random = False

    def __init__(
        self, images: Any, labels: Any, name: str, class_names: tuple[str, ...] | None = None
    ) -> None:
        self.class_names = class_names
        self._images, self._labels, self._name = images, labels, name
        if len(images) != len(labels):
            raise UserError(
                f"{name}: {len(images)} images and {len(labels)} labels; give as many labels as images"
            )
        if not len(images):
            raise UserError(f"{name} has no samples; give some")
        shape = getattr(labels, "shape", ())
        if len(shape) > 1 and tuple(shape[1:]) != (1,) * (len(shape) - 1):
            raise UserError(f"{name}: labels of shape {tuple(shape)} are {MULTI_LABEL}; give labels [N]")

    def __len__(self) -> int:
        return len(self._images)

    def labels(self) -> Labels:
        """The labels as they are stored."""
        return Labels.of(as_list(self._labels), self.location)

    def content(self, row: int) -> Any:
        """The image of a row."""
        return self._images[row]

    def location(self, row: int) -> str:
        """Name of a sample in an error: its number, from 0."""
        return f"{self._name}, sample {row}"


def as_list(labels: Any) -> Sequence[Any]:
    """Labels as plain Python values, all at once."""
    if isinstance(labels, torch.Tensor):
        labels = labels.detach().cpu().numpy()
    is_array = hasattr(labels, "tolist") and len(labels)
    values: Sequence[Any] = labels.reshape(len(labels)).tolist() if is_array else labels
    return values
