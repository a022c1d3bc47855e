"""NYUv2 as a table: a row for each sample, its maps in columns of nested lists (``tanganke/nyuv2``)."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from offramp.data._dense_maps import dense_sample
from offramp.data._dense_rows import DenseRows, DenseSample
from offramp.data._extra import extra
from offramp.data._table import Table
from offramp.errors import UserError, shown

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DenseTableRows", "is_dense"]

COLUMNS = {"image": "image", "segmentation": "segmentation", "depth": "depth", "normals": "normal"}


def is_dense(table: Table) -> bool:
    """Whether a table has a column of nested lists for the image and for each of its maps."""
    places = [table.schema.get_field_index(column) for column in COLUMNS.values()]  # -1 of none, and of two
    return min(places) >= 0 and all(_is_list(_stored(table.schema.field(place).type)) for place in places)


class DenseTableRows(DenseRows):
    """The samples of a table with columns ``image``, ``segmentation``, ``depth`` and ``normal``.

    Raises:
        UserError: The table is empty.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        if not table.num_rows:
            raise UserError(f"{table.name} has no rows; fetch or make it again")

    def __len__(self) -> int:
        return self._table.num_rows

    @cached_property
    def _columns(self) -> dict[str, pa.ChunkedArray]:
        return {key: self._table.column(column) for key, column in COLUMNS.items()}

    def sample(self, row: int) -> DenseSample:
        """The arrays of a row.

        Raises:
            UserError: One is null, ragged, or holds something else.
        """
        order = self._table.order
        position = row if order is None else int(order[row])
        locations = {key: f"{self.location(row)}, column {shown(column)}" for key, column in COLUMNS.items()}
        arrays = {key: _array(column, position, locations[key]) for key, column in self._columns.items()}
        return dense_sample(arrays, locations)

    def location(self, row: int) -> str:
        """The name of a row in an error."""
        return self._table.location(row)


def _array(column: pa.ChunkedArray, row: int, location: str) -> np.ndarray:
    """The nested list of a row as an array, not by way of Python numbers."""
    values: Any = column.slice(row, 1).combine_chunks()
    values = values.chunk(0) if hasattr(values, "chunk") else values
    values = getattr(values, "storage", values)  # an array type of `datasets`
    shape: list[int] = []
    while _is_list(values.type):
        lengths = extra("pyarrow.compute").list_value_length(values).unique()
        if len(lengths) != 1 or lengths[0].as_py() is None:
            raise UserError(f"{location}: null or of several lengths; give a whole array")
        shape.append(lengths[0].as_py())
        values = values.flatten()
    if values.null_count:
        raise UserError(f"{location}: holds nulls; give numbers")
    array: np.ndarray = values.to_numpy(zero_copy_only=False)
    return array.reshape(shape)


def _stored(type_: pa.DataType) -> pa.DataType:
    return getattr(type_, "storage_type", type_)


def _is_list(type_: pa.DataType) -> bool:
    types = extra("pyarrow.types")
    return bool(types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_))
