"""Rows of a table: encoded images or paths of image files, and labels of any kind."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from offramp.data._column_types import MISFITS, not_texts
from offramp.data._columns import USUAL, Columns
from offramp.data._extra import extra
from offramp.data._features import features_of
from offramp.data._folder import read_image
from offramp.data._labels import Labels
from offramp.data._stored import StoredColumn
from offramp.data.class_names import class_names
from offramp.errors import UserError, error_text, shown

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Table", "TableRows"]


class Table(Protocol):
    """A stored table: its schema and size are in memory, its columns are read when asked for."""

    name: str
    schema: pa.Schema  # with the Hugging Face features in its metadata, if there are any
    num_rows: int
    folder: Path  # to which the paths of images are relative

    @property
    def order(self) -> np.ndarray | None:
        """Position in the columns of each row; None if they are in the same order."""

    def column(self, name: str) -> pa.ChunkedArray:
        """Read one column."""

    def location(self, row: int) -> str:
        """The name of a row in an error."""


class TableRows:
    """The image or text column and the label column of a table.

    Images are files' contents (binary, or Hugging Face's struct of bytes and path) or paths as text.

    Raises:
        UserError: The table is empty, has no column of images or texts, or of labels, or says something odd
            of them.
    """

    random = False

    def __init__(self, table: Table, columns: Columns) -> None:
        self.table = table
        if not table.num_rows:
            raise UserError(f"{table.name} has no rows; fetch or make it again")
        try:
            names: list[str] = table.schema.names
        except UnicodeDecodeError as error:
            raise UserError(
                f"{table.name}: the name of a column is no text ({error.reason}); write it anew in UTF-8"
            ) from error
        features = features_of(table.schema, table.name)
        kinds = {"image": "Image", "label": "ClassLabel"}
        declared = {
            role: [name for name in names if features.get(name, {}).get("_type") == kind]
            for role, kind in kinds.items()
        }
        words = [field.name for field in table.schema if not not_texts(field.type)]
        of_targets = {columns.label, *USUAL["label"], *(of.column for of in (columns.asked or {}).values())}
        declared["text"] = [name for name in words if name not in of_targets]

        def misfit(role: str, column: str) -> str | None:
            if len(table.schema.get_all_field_indices(column)) > 1:
                return "what is there twice: two columns of one name"
            type_ = table.schema.field(column).type
            return MISFITS[role](type_)

        self._kind = columns.kind
        self._content_column, self._label_column = columns.pick(table.name, names, misfit, declared)
        named = {self._label_column, *(of.column for of in (columns.asked or {}).values())}
        self._class_names = {
            column: class_names(of_column, f"{table.name}, {shown(column)}")
            for column, feature in features.items()
            if column in named and (of_column := feature.get("names"))
        }
        self.asked = columns.asked

    def __len__(self) -> int:
        return self.table.num_rows

    def names(self) -> list[str] | None:
        """The texts, or the paths of the images; None where the table has the images themselves."""
        if not_texts(self.table.schema.field(self._content_column).type):
            return None
        names = self._in_order(self._content_column).to_pylist()
        return ["" if name is None else name for name in names]

    def location(self, row: int) -> str:
        """The name of a row in an error."""
        return self.table.location(row)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes of the labels, if the table has them."""
        return None if self._label_column is None else self._class_names.get(self._label_column)

    def labels(self) -> Labels:
        """The labels as they are stored; the column is read by itself."""
        assert self._label_column is not None
        return Labels.of_column(self._in_order(self._label_column), self.location)

    def column(self, name: str) -> StoredColumn:
        """The values of a column, which is read by itself."""
        values = self._in_order(name).to_pylist()
        return StoredColumn.of(name, values, self.location, self._class_names.get(name))

    def _in_order(self, name: str) -> pa.ChunkedArray:
        column = self._whole(name)
        return column if self.table.order is None else column.take(extra("pyarrow").array(self.table.order))

    @cached_property
    def _contents(self) -> pa.ChunkedArray:
        return self._whole(self._content_column)

    def _whole(self, name: str) -> pa.ChunkedArray:
        """A column as it is stored, whose texts are texts."""
        column = self.table.column(name)
        try:
            column.validate(full=True)
        except extra("pyarrow").ArrowException as error:
            raise UserError(
                f"{self.table.name}: column {shown(name)} is damaged ({error_text(error)}); write it anew"
            ) from error
        return column

    def content(self, row: int) -> bytes | str:
        """The content of a row's image file, or its text.

        Raises:
            UserError: The row has none.
        """
        cell: Any = self._contents[row if self.table.order is None else int(self.table.order[row])].as_py()
        if self._kind == "text" and cell is not None:
            text: str = cell
            return text
        content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
        if isinstance(content, str):
            content, path = None, content
        if content is None and path:
            return read_image(self.table.folder / path, f"{self.location(row)}, {shown(path)}")
        if content is None:
            raise UserError(
                f"{self.location(row)}: no {self._kind} ({shown(self._content_column)} is null); "
                "fill or remove the row"
            )
        image: bytes = content
        return image
