"""Rows of a table: encoded images or paths of image files, and labels of any kind."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from offramp.data._class_names import class_names
from offramp.data._columns import USUAL, Columns
from offramp.data._extra import extra
from offramp.data._features import features_of
from offramp.data._folder import read_image
from offramp.data._labels import MULTI_LABEL, Labels
from offramp.data._stored import StoredColumn
from offramp.errors import UserError, cut, shown

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Table", "TableRows", "not_images"]


BINARY = ("binary", "large_binary")
TEXT = ("string", "large_string")
NUMBERS = ("boolean", "integer", "floating")


class Table(Protocol):
    """A stored table: its schema and size at hand, its columns read when asked for."""

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
        features = features_of(table.schema, table.name)
        kinds = {"image": "Image", "label": "ClassLabel"}
        declared = {
            role: [name for name in table.schema.names if features.get(name, {}).get("_type") == kind]
            for role, kind in kinds.items()
        }
        words = [field.name for field in table.schema if not _not_texts(field.type)]
        of_targets = {columns.label, *USUAL["label"], *(of.column for of in (columns.asked or {}).values())}
        declared["text"] = [name for name in words if name not in of_targets]

        def misfit(role: str, column: str) -> str | None:
            if len(table.schema.get_all_field_indices(column)) > 1:
                return "what is there twice: two columns of one name"
            type_ = table.schema.field(column).type
            checks = {"image": not_images, "text": _not_texts, "label": _not_labels, "target": _not_targets}
            return checks[role](type_)

        self._kind = columns.kind
        self._content_column, self._label_column = columns.pick(
            table.name, table.schema.names, misfit, declared
        )
        named = {self._label_column, *(of.column for of in (columns.asked or {}).values())}
        self._class_names = {
            column: class_names(names, f"{table.name}, {shown(column)}")
            for column, feature in features.items()
            if column in named and (names := feature.get("names"))
        }
        self.asked = columns.asked

    def __len__(self) -> int:
        return self.table.num_rows

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
            reason = " ".join(str(error).split())
            raise UserError(
                f"{self.table.name}: column {shown(name)} is damaged ({cut(reason, 200)}); write it anew"
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


def _not_targets(type_: pa.DataType) -> str | None:
    """Description of a column of this type, if it cannot hold targets; numbers are looked at later."""
    if _is(type_, "list", "large_list", "fixed_size_list"):
        numbers = _is(type_.value_type, *NUMBERS, "null")
        return None if numbers else f"{_named(type_)}, no targets (lists of numbers)"
    if _is(type_, "nested") or _not_labels(type_) is not None:
        return f"{_named(type_)}, no targets (numbers, words, or lists of numbers)"
    return None


def not_images(type_: pa.DataType) -> str | None:
    """Description of a column of this type, if it cannot hold images; else None."""
    parts = [(field.name, field.type) for field in type_] if extra("pyarrow.types").is_struct(type_) else []
    contents = [of for name, of in parts if name == "bytes"]
    paths = [of for name, of in parts if name == "path"]
    if max(len(contents), len(paths)) == 1 and all(
        _is(of, "null", *kinds) for found, kinds in ((contents, BINARY), (paths, TEXT)) for of in found
    ):
        return None
    if _is(type_, *BINARY, *TEXT):
        return None
    content = "contents of image files, alone or in a struct of bytes and path; or their paths"
    return f"{_named(type_)}, no images ({content})"


def _not_texts(type_: pa.DataType) -> str | None:
    """Description of a column of this type, if it cannot hold texts; else None."""
    return None if _is(type_, *TEXT) else f"{_named(type_)}, no texts"


def _not_labels(type_: pa.DataType) -> str | None:
    """Description of a column of this type, if it cannot hold labels; numbers are looked at later."""
    types = extra("pyarrow.types")
    if types.is_dictionary(type_):
        return _not_labels(type_.value_type)
    if _is(type_, *NUMBERS, *TEXT, "null"):
        return None
    if types.is_nested(type_):
        return f"{_named(type_)}: {MULTI_LABEL}"
    return f"{_named(type_)}, no labels (whole numbers, words, truth values)"


def _is(type_: pa.DataType, *kinds: str) -> bool:
    """Whether a type is of one of the kinds that ``pyarrow.types`` tells apart."""
    types = extra("pyarrow.types")
    return any(getattr(types, f"is_{kind}")(type_) for kind in kinds)


def _named(type_: pa.DataType) -> str:
    """A type in an error, which may have thousands of fields."""
    return cut(str(type_), 100)
