"""Rows of a table: encoded images or their files' paths, and labels of any kind."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from offramp.data.columns import Columns
from offramp.data.extra import extra
from offramp.data.folder import read_image
from offramp.data.labels import MULTI_LABEL, Labels
from offramp.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Table", "TableRows", "no_images"]


class Table(Protocol):
    """A stored table: its schema and size at hand, its columns read when asked for."""

    name: str
    schema: pa.Schema  # with the Hugging Face features in its metadata, if there are any
    num_rows: int
    folder: Path  # where paths of images begin

    @property
    def order(self) -> np.ndarray | None:
        """The row of the columns that each row is; None if they are in the same order."""

    def column(self, name: str) -> pa.ChunkedArray:
        """Read one column."""

    def where(self, row: int) -> str:
        """The name of a row in an error."""


class TableRows:
    """The image and label columns of a table.

    Images are files' contents (binary, or Hugging Face's struct of bytes and path) or paths as text.

    Raises:
        UserError: The table is empty, or has no column of images or labels.
    """

    random = False

    def __init__(self, table: Table, columns: Columns) -> None:
        self.table = table
        if not table.num_rows:
            raise UserError(f"{table.name} has no rows; fetch or make it again")
        metadata = (table.schema.metadata or {}).get(b"huggingface", b"{}")
        features = json.loads(metadata).get("info", {}).get("features", {})
        kinds = {"image": "Image", "label": "ClassLabel"}
        declared = {
            role: [name for name in table.schema.names if features.get(name, {}).get("_type") == kind]
            for role, kind in kinds.items()
        }

        def unfit(role: str, column: str) -> str | None:
            type_ = table.schema.field(column).type
            return no_images(type_) if role == "image" else _no_labels(type_)

        self._image, self._label = columns.pick(table.name, table.schema.names, unfit, declared)
        names = features.get(self._label, {}).get("names")
        self.class_names: tuple[str, ...] | None = tuple(names) if names else None

    def __len__(self) -> int:
        return self.table.num_rows

    def where(self, row: int) -> str:
        """The name of a row in an error."""
        return self.table.where(row)

    def labels(self) -> Labels:
        """The labels as they are stored; the column is read by itself."""
        column = self.table.column(self._label)
        if self.table.order is not None:
            column = column.take(extra("pyarrow").array(self.table.order))
        return Labels.of_column(column, self.where)

    @cached_property
    def _images(self) -> pa.ChunkedArray:
        return self.table.column(self._image)

    def stored(self, row: int) -> bytes:
        """One image's file content.

        Raises:
            UserError: The row has none.
        """
        cell: Any = self._images[row if self.table.order is None else int(self.table.order[row])].as_py()
        content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
        if isinstance(content, str):
            content, path = None, content
        if content is None and path:
            return read_image(self.table.folder / path, f"{self.where(row)}, {path}")
        if content is None:
            raise UserError(f"{self.where(row)}: no image ({self._image!r} is null); fill or remove the row")
        image: bytes = content
        return image


def no_images(type_: pa.DataType) -> str | None:
    """What a column of this type holds, if these are no images."""
    types = extra("pyarrow.types")
    if types.is_struct(type_) and {field.name for field in type_} & {"bytes", "path"}:
        return None
    if (
        types.is_binary(type_)
        or types.is_large_binary(type_)
        or types.is_string(type_)
        or types.is_large_string(type_)
    ):
        return None
    content = "contents of image files, alone or in a struct of bytes and path; or their paths"
    return f"{type_}, no images ({content})"


def _no_labels(type_: pa.DataType) -> str | None:
    """What a column of this type holds, if these are no labels; numbers are looked at one by one later."""
    types = extra("pyarrow.types")
    if types.is_dictionary(type_):
        return _no_labels(type_.value_type)
    kinds = ("boolean", "integer", "floating", "string", "large_string", "null")
    if any(getattr(types, f"is_{kind}")(type_) for kind in kinds):
        return None
    if types.is_nested(type_):
        return f"{type_}: {MULTI_LABEL}"
    return f"{type_}, no labels (whole numbers, words, truth values)"
