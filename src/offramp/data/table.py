"""Rows of a table in the Hugging Face layout: image struct{bytes, path}, label ClassLabel."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from offramp.data.extra import extra
from offramp.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Table", "TableRows"]

IMAGES = ("image", "img")
LABELS = ("label", "fine_label", "labels")  # CIFAR-100 on the hub has fine_label and coarse_label


class Table(Protocol):
    """A stored table: its schema and size at hand, its columns read when asked for."""

    name: str
    schema: pa.Schema  # with the Hugging Face features in its metadata, if there are any
    num_rows: int

    def column(self, name: str) -> pa.ChunkedArray:
        """Read one column."""

    def where(self, row: int) -> str:
        """How an error names the row."""


class TableRows:
    """The image and label columns of a table.

    Raises:
        UserError: The table is empty, or has no column of images or labels.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        if not table.num_rows:
            raise UserError(f"{table.name} has no rows; fetch or make it again")
        metadata = (table.schema.metadata or {}).get(b"huggingface", b"{}")
        features = json.loads(metadata).get("info", {}).get("features", {})
        self._image = _pick(table, features, "Image", IMAGES)
        self._label = _pick(table, features, "ClassLabel", LABELS)
        names = features.get(self._label, {}).get("names")
        self.class_names: tuple[str, ...] | None = tuple(names) if names else None

    def __len__(self) -> int:
        return self.table.num_rows

    def where(self, row: int) -> str:
        """How an error names the row."""
        return self.table.where(row)

    @cached_property
    def _labels(self) -> pa.ChunkedArray:
        return self.table.column(self._label)

    @property
    def labelled(self) -> bool:
        """Whether any row has a label; published test sets sometimes hold -1 throughout."""
        compute = extra("pyarrow.compute")
        return bool(compute.any(compute.greater_equal(self._labels, 0)).as_py())

    def labels(self) -> np.ndarray:
        """The labels, int64 ``[N]``.

        Raises:
            UserError: A label is missing.
        """
        if self._labels.null_count:
            row = int(np.flatnonzero(self._labels.is_null().to_numpy())[0])
            raise UserError(f"{self.where(row)}: no label ({self._label!r} is null); label or remove the row")
        return self._labels.to_numpy().astype(np.int64)

    @cached_property
    def _encoded(self) -> pa.ChunkedArray:
        column = self.table.column(self._image)
        if extra("pyarrow.types").is_struct(column.type):
            return extra("pyarrow.compute").struct_field(column, "bytes")
        return column

    def encoded(self, row: int) -> bytes:
        """One image's file content.

        Raises:
            UserError: The row has none.
        """
        content = self._encoded[row].as_py()
        if content is None:
            raise UserError(f"{self.where(row)}: no image ({self._image!r} is null); fill or remove the row")
        return content


def _pick(table: Table, features: dict[str, Any], kind: str, usual: tuple[str, ...]) -> str:
    """The column of this kind: by its usual name, else the only one declared so."""
    types = extra("pyarrow.types")

    def fits(name: str) -> bool:
        type_ = table.schema.field(name).type
        if kind == "ClassLabel":
            return types.is_integer(type_)
        return types.is_struct(type_) or types.is_binary(type_)

    columns = table.schema.names
    declared = [name for name in columns if features.get(name, {}).get("_type") == kind]
    for name in (*usual, *(declared if len(declared) == 1 else ())):
        if name in columns and fits(name):
            return name
    what = "encoded images (struct of bytes and path)" if kind == "Image" else "integer labels"
    raise UserError(f"{table.name} has no column of {what} among {', '.join(columns)}; name it {usual[0]!r}")
