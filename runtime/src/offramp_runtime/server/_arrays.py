"""Numbers of JSON as arrays of the dtypes that a model reads, with nothing rounded, wrapped or made up."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
from starlette.exceptions import HTTPException

from offramp_runtime import Input

__all__ = ["array"]

NESTED = "must be numbers in nested lists of equal lengths"


def array(value: Any, entry: Input) -> np.ndarray:
    """The array of an input.

    Args:
        value: Nested lists of numbers, or of true and false for a bool input.
        entry: The input: its name and dtype. Its shape is for the model to check.

    Raises:
        HTTPException: 400, the value is no array, or has numbers that the dtype cannot hold.
    """
    dtype, kinds = np.dtype(entry.dtype), _kinds(value)
    if not kinds:
        raise _bad(entry, "has no numbers")
    if list in kinds:
        raise _bad(entry, NESTED)
    if not kinds <= ({bool} if dtype.kind == "b" else {int, float}):
        raise _bad(entry, "must be true and false" if dtype.kind == "b" else _held(dtype))
    try:
        read = np.asarray(value)
    except (ValueError, OverflowError):  # lists of several lengths, or too deep
        raise _bad(entry, NESTED) from None
    if dtype.kind == "b":
        return read
    if read.dtype.kind not in "iuf":  # whole numbers beyond 64 bits
        raise _bad(entry, _held(dtype))
    return _whole(read, dtype, entry) if dtype.kind in "iu" else _real(read, dtype, entry)


def _kinds(value: Any) -> set[type]:
    """The types of what nested lists hold; numpy would make room for the longest text in every place.

    Lists beside other things, which no array has, are among them.
    """
    level, kinds = [value], {type(value)}
    while kinds == {list}:
        level = [*chain.from_iterable(level)]
        kinds = set(map(type, level))
    return kinds


def _whole(read: np.ndarray, dtype: np.dtype, entry: Input) -> np.ndarray:
    span = np.iinfo(dtype)
    whole = f"must be whole numbers from {span.min} to {span.max}"
    if read.dtype.kind == "f":  # 1.0 too: beyond 2 ** 53, and where it is a level from 0 to 1, it is another
        raise _bad(entry, f"{whole}, written without a point")
    if read.min() < span.min or read.max() > span.max:
        raise _bad(entry, whole)
    return read.astype(dtype)


def _real(read: np.ndarray, dtype: np.dtype, entry: Input) -> np.ndarray:
    with np.errstate(over="ignore"):
        cast = read.astype(dtype)
    if not np.isfinite(cast).all():
        raise _bad(entry, _held(dtype))
    return cast


def _held(dtype: np.dtype) -> str:
    return f"must be numbers that {dtype} can hold"


def _bad(entry: Input, what: str) -> HTTPException:
    return HTTPException(400, f"{entry.name} {what}")
