"""Numbers of JSON as arrays of the dtypes that a model reads, with nothing rounded, wrapped or made up."""

from __future__ import annotations

from typing import Any

import numpy as np
from starlette.exceptions import HTTPException

from offramp_runtime import Input

__all__ = ["array"]


def array(value: Any, entry: Input) -> np.ndarray:
    """The array of an input.

    Args:
        value: Nested lists of numbers, or of true and false for a bool input.
        entry: The input: its name and dtype. Its shape is for the model to check.

    Raises:
        HTTPException: 400, the value is no array, or has numbers that the dtype cannot hold.
    """
    dtype = np.dtype(entry.dtype)
    try:
        read = np.asarray(value)
    except (ValueError, OverflowError):  # lists of several lengths, or too deep
        raise _bad(entry, "must be numbers in nested lists of equal lengths") from None
    if read.size == 0:
        raise _bad(entry, "has no numbers")
    if dtype.kind == "b":
        if read.dtype.kind != "b":
            raise _bad(entry, "must be true and false")
        return read
    if read.dtype.kind not in "iuf":
        raise _bad(entry, f"must be numbers that {dtype} can hold")
    return _whole(read, dtype, entry) if dtype.kind in "iu" else _real(read, dtype, entry)


def _whole(read: np.ndarray, dtype: np.dtype, entry: Input) -> np.ndarray:
    span = np.iinfo(dtype)
    if read.dtype.kind == "f" or read.min() < span.min or read.max() > span.max:
        raise _bad(entry, f"must be whole numbers from {span.min} to {span.max}")
    return read.astype(dtype)


def _real(read: np.ndarray, dtype: np.dtype, entry: Input) -> np.ndarray:
    with np.errstate(over="ignore"):
        cast = read.astype(dtype)
    if not np.isfinite(cast).all():
        raise _bad(entry, f"must be numbers that {dtype} can hold")
    return cast


def _bad(entry: Input, what: str) -> HTTPException:
    return HTTPException(400, f"{entry.name} {what}")
