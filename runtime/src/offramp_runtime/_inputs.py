"""Inputs that a model cannot read, or that hold no samples, are refused in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from offramp_runtime._errors import InputError, shown
from offramp_runtime._manifest import Input

__all__ = ["batch_of", "sample_of"]


def batch_of(inputs: Sequence[Input], x: Any) -> list[np.ndarray]:
    """The arrays of a batch, in the order of the model's inputs.

    Args:
        inputs: What the model reads.
        x: An array ``[N, ...]`` where it reads one, or arrays by name, with N rows each.

    Raises:
        InputError: They are not what the model reads, or no samples.
    """
    arrays = [_checked(entry, given, ("N",)) for entry, given in zip(inputs, _given(inputs, x), strict=True)]
    if len({len(array) for array in arrays}) > 1:
        raise InputError(f"the inputs have {[len(each) for each in arrays]} samples; give as many of each")
    if not len(arrays[0]):
        raise InputError("there are no samples in the batch; give one or more")
    return arrays


def sample_of(inputs: Sequence[Input], x: Any) -> list[np.ndarray]:
    """The arrays of one sample, which have no batch axis.

    Raises:
        InputError: They are not what the model reads.
    """
    return [_checked(entry, given, ()) for entry, given in zip(inputs, _given(inputs, x), strict=True)]


def _given(inputs: Sequence[Input], x: Any) -> list[Any]:
    names = [entry.name for entry in inputs]
    if isinstance(x, Mapping):
        if {*x} != {*names}:
            raise InputError(
                f"the model reads {', '.join(names)}, got {', '.join(map(shown, x)) or 'nothing'}"
            )
        return [x[name] for name in names]
    if len(inputs) > 1:
        raise InputError(f"the model reads {', '.join(names)}; give a dict of arrays by these names")
    return [x]


def _checked(entry: Input, x: Any, before: tuple[str, ...]) -> np.ndarray:
    """An array as the model reads it, with these axes before those of a sample."""
    try:
        array = np.asarray(x)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{entry.name} is no array ({error}); give a numpy array") from None
    if array.dtype != entry.dtype:
        raise InputError(
            f"the model reads {entry.name} as {entry.dtype}, got {array.dtype}; {_cast(array, entry)}"
        )
    sizes = array.shape[len(before) :]
    fits = all(size == wanted or wanted is None for size, wanted in zip(sizes, entry.shape, strict=False))
    if array.ndim != len(before) + len(entry.shape) or not fits:
        wanted = ", ".join([*before, *("any" if each is None else str(each) for each in entry.shape)])
        raise InputError(
            f"the model reads {entry.name} as [{wanted}], got {[*array.shape]}; give such an array"
        )
    if 0 in sizes:
        raise InputError(
            f"{entry.name} is of shape {[*array.shape]}, which holds nothing; give samples that do"
        )
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise InputError(f"{entry.name} holds NaN; replace it, or leave the sample out")
    return array


def _cast(array: np.ndarray, entry: Input) -> str:
    """How to get the dtype; a cast to whole numbers would make 0 of the levels of images from 0 to 1."""
    if array.dtype.kind in "biu" or np.can_cast(array.dtype, entry.dtype, "same_kind"):
        return f"give such an array, as by x.astype('{entry.dtype}')"
    return "give such an array" + ", of images the levels 0 ... 255" * (entry.dtype == "uint8")
