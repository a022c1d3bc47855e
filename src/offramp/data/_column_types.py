"""What a column of a table can hold, by its type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offramp.data._extra import extra
from offramp.data._labels import MULTI_LABEL
from offramp.errors import cut

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MISFITS", "not_images", "not_texts"]

BINARY = ("binary", "large_binary")
TEXT = ("string", "large_string")
NUMBERS = ("boolean", "integer", "floating")


def not_targets(type_: pa.DataType) -> str | None:
    """Description of a column of this type, if it cannot hold targets; numbers are looked at later."""
    if _is(type_, "list", "large_list", "fixed_size_list"):
        numbers = _is(type_.value_type, *NUMBERS, "null")
        return None if numbers else f"{_named(type_)}, no targets (lists of numbers)"
    if _is(type_, "nested") or not_labels(type_) is not None:
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


def not_texts(type_: pa.DataType) -> str | None:
    """Description of a column of this type, if it cannot hold texts; else None."""
    return None if _is(type_, *TEXT) else f"{_named(type_)}, no texts"


def not_labels(type_: pa.DataType) -> str | None:
    """Description of a column of this type, if it cannot hold labels; numbers are looked at later."""
    types = extra("pyarrow.types")
    if types.is_dictionary(type_):
        return not_labels(type_.value_type)
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


# Role of a column -> what describes a type that cannot serve.
MISFITS = {"image": not_images, "text": not_texts, "label": not_labels, "target": not_targets}
