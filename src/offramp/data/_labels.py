"""Labels as they are stored: whole numbers, words, truth values; other kinds of target are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from offramp.data._extra import extra
from offramp.errors import UserError, shown

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MULTI_LABEL", "Labels", "is_number", "plain"]

BEYOND = 2**64  # what no column holds
MULTI_LABEL = "several labels at once (multi-label, one-hot or mixed), and one class for each image is needed"


@dataclass(frozen=True)
class Labels:
    """The labels of a split.

    Attributes:
        values: The different values that occur: whole numbers, words, truth values.
        codes: Index into `values` of each row, int64 ``[N]``; -1: no label.
    """

    values: list[Any]
    codes: np.ndarray

    @classmethod
    def of(cls, labels: Iterable[Any], location: Callable[[int], str]) -> Labels:
        """Collect labels one by one: plain values, or arrays and Tensors of one element.

        Args:
            labels: As they are stored.
            location: Gives the name of a row in an error.

        Raises:
            UserError: One of them is no class; the line names the row and says what it is.
        """
        whole = _whole_numbers(labels)
        if whole is not None:
            values, first, places = np.unique(whole, return_index=True, return_inverse=True)
            order = first.argsort()  # in which they occur
            return cls(values[order].tolist(), order.argsort()[places])
        codes_of: dict[tuple[type, Any], int] = {}  # keyed with their types, since True == 1
        codes = []
        for row, label in enumerate(labels):
            value = plain(label)
            _check(value, partial(location, row))
            codes.append(-1 if value is None else codes_of.setdefault((type(value), value), len(codes_of)))
        return cls([value for _, value in codes_of], np.array(codes, np.int64))

    @classmethod
    def of_column(cls, column: pa.ChunkedArray, location: Callable[[int], str]) -> Labels:
        """Collect the labels of a table's column, as :meth:`of`."""
        if extra("pyarrow.types").is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        encoded = extra("pyarrow.compute").dictionary_encode(column).combine_chunks()
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        different = cls.of(
            encoded.dictionary.to_pylist(), lambda code: location(int(np.flatnonzero(codes == code)[0]))
        )  # of which two may be one label, as 0.0 and -0.0, and some none, as NaN
        return cls(different.values, np.append(different.codes, -1)[codes])

    def first_row(self, value: object) -> int:
        """Number of the first row with a value, or without a label (None)."""
        code = -1 if value is None else self.values.index(value)
        return int(np.flatnonzero(self.codes == code)[0])

    def count(self, values: Iterable[object]) -> int:
        """Number of rows that have one of these values."""
        return int(np.isin(self.codes, [self.values.index(value) for value in values]).sum())


def _whole_numbers(labels: Iterable[Any]) -> np.ndarray | None:
    """Labels as an array, if they are a list of plain whole numbers; millions of them are, and quickly so."""
    if not isinstance(labels, list) or {*map(type, labels)} != {int}:
        return None
    try:
        return np.array(labels, np.int64)
    except OverflowError:
        return None


def plain(label: Any) -> Any:
    """A label as a plain value: bool, int or str; None for NaN and ""; what is no class stays what it is."""
    is_array = getattr(label, "shape", None) is not None and hasattr(label, "item")  # of NumPy or torch
    if is_array and np.prod(label.shape) == 1 and not getattr(label, "is_meta", False):
        label = label.item()
    if isinstance(label, float):
        return None if label != label else int(label) if label.is_integer() else label
    return None if isinstance(label, str) and not label else label


def is_number(value: object) -> bool:
    """Whether a label is a whole number; a truth value is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def _check(value: Any, location: Callable[[], str]) -> None:
    if value is None or isinstance(value, (bool, str)) or (isinstance(value, int) and abs(value) < BEYOND):
        return
    if isinstance(value, int):
        problem = f"{shown(value, 60)}, a number beyond 64 bits, and a class is needed"
    elif getattr(value, "is_meta", False):
        problem = "a Tensor on the device meta, which has no value"
    elif isinstance(value, float):
        problem = f"a number to be predicted ({value:g}, regression), and a class is needed"
    elif hasattr(value, "__len__") and not isinstance(value, (bytes, bytearray)):
        problem = MULTI_LABEL
    else:
        problem = (
            f"of type {type(value).__name__} ({shown(value, 60)}), not a whole number, word or truth value"
        )
    remedy = "give other labels, or choose their column by `label=...`"
    if isinstance(value, float):
        remedy += "; for a net that predicts numbers name them as a target, e.g. `tasks={values: label}`"
    raise UserError(f"{location()}: the label is {problem}; {remedy}")
