"""A column of targets as it is stored, of tables and of Python objects alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from offramp.errors import shown

__all__ = ["StoredColumn", "as_plain"]


class StoredColumn(NamedTuple):
    """The values of one column, row by row.

    Attributes:
        name: Its name.
        values: Plain numbers, words or lists of such; arrays of two axes or more as they are; None: no value.
        location: Gives the name of a row in an error.
        class_names: Names of the classes 0, 1, ..., if the set has any for this column.
    """

    name: str
    values: list[Any]
    location: Callable[[int], str]
    class_names: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls,
        name: str,
        values: Iterable[Any],
        location: Callable[[int], str],
        class_names: tuple[str, ...] | None = None,
    ) -> StoredColumn:
        """A column of values of any type; NaN, an empty word, and a list of None and NaN alone are none."""
        return cls(name, [as_plain(value) for value in values], location, class_names)

    def where(self, row: int) -> str:
        """The name of a row's value in an error."""
        return f"{self.location(row)}, {shown(self.name)}"


def as_plain(value: Any) -> Any:
    """A value as plain Python: of arrays and Tensors of at most one axis their numbers; None for none."""
    if isinstance(value, Tensor) and not value.is_meta:
        value = value.detach().cpu().numpy()
    if isinstance(value, (np.ndarray, np.generic)):
        if value.ndim > 1:
            return value
        value = value.tolist()
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, list):
        value = [as_plain(part) for part in value]
        return None if value and all(part is None for part in value) else value
    if isinstance(value, Tensor):  # without values; it is of no kind
        return value
    return None if value == "" or value != value else value
