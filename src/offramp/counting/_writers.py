"""Which operator wrote each byte of memory last."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from offramp.flops import memory_of

__all__ = ["NOBODY", "Writers"]

NOBODY = -1  # of what was there before, such as parameters and inputs


class Writers:
    """Numbers of the operators that wrote to memory, by which slices of a tensor are told apart."""

    def __init__(self) -> None:
        self._last: dict[int, int | np.ndarray[Any, Any]] = {}  # memory -> one for all of it, or one a byte

    def of(self, tensor: Tensor) -> set[int]:
        """The operators that wrote what a tensor now holds."""
        last = self._last.get(memory_of(tensor), NOBODY)
        if isinstance(last, int):
            return {last} - {NOBODY}
        return set(np.flatnonzero(np.bincount(self._bytes(tensor).ravel() + 1)[1:]).tolist())

    def mixed(self, tensor: Tensor) -> bool:
        """Whether the memory of a tensor was written part by part."""
        return not isinstance(self._last.get(memory_of(tensor), NOBODY), int)

    def elements(self, tensor: Tensor) -> np.ndarray[Any, Any] | None:
        """The operator that wrote each element; None if an element has several."""
        last = self._last.get(memory_of(tensor), NOBODY)
        if isinstance(last, int):
            return np.full(tuple(tensor.shape), last, np.int32)
        each = self._bytes(tensor)
        return each[..., 0] if (each == each[..., :1]).all() else None

    def made(self, tensor: Tensor, operator: int) -> None:
        """Note that an operator has made the memory of a tensor."""
        self._last[memory_of(tensor)] = operator

    def wrote(self, tensor: Tensor, operators: int | np.ndarray[Any, Any], where: Any = True) -> None:
        """Note who has written to a tensor: one operator, or one for each element.

        Args:
            tensor: It may be a view of a part of its memory.
            operators: A number, or numbers of the shape of the tensor.
            where: The elements that were written, by default all of them.
        """
        whole = tensor.numel() * tensor.itemsize == tensor.untyped_storage().nbytes()
        if isinstance(operators, int) and where is True and whole and tensor.is_contiguous():
            self.made(tensor, operators)
            return
        values, where = np.asarray(operators)[..., None], np.asarray(where)[..., None]
        np.copyto(self._bytes(tensor), values, where=where)

    def _bytes(self, tensor: Tensor) -> np.ndarray[Any, Any]:
        """A view of the operators that wrote to a tensor, of its shape and one more axis for the bytes."""
        memory, size = memory_of(tensor), tensor.untyped_storage().nbytes()
        last = self._last.get(memory, NOBODY)
        if isinstance(last, int):
            last = np.full(size, last, np.int32)  # half the memory of numpy's own whole numbers
        elif len(last) != size:  # the memory was resized
            last = np.resize(last, size)
        self._last[memory] = last
        item = tensor.itemsize
        return np.lib.stride_tricks.as_strided(
            last[tensor.storage_offset() * item :],
            (*tensor.shape, item),
            tuple(last.itemsize * each for each in (*(item * stride for stride in tensor.stride()), 1)),
        )
