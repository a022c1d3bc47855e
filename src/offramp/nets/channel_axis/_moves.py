"""Which axis of a Tensor becomes which when the Tensor is moved, reshaped or indexed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["Axes", "indexed_axes", "moved_axes", "reshaped_axes"]

Axes = tuple[int | None, ...]


def moved_axes(func: Any, args: Any, kwargs: Any, data: Tensor) -> Axes | None:
    """Where each axis of the result comes from, seen on a Tensor whose sizes are different primes."""
    primes = [n for n in range(2, 60) if all(n % d for d in range(2, math.isqrt(n) + 1))][: data.ndim]
    probe = torch.empty(primes, device="meta")
    result = func(probe, *args[1:], **kwargs) if args else None
    if not isinstance(result, Tensor):
        return None
    return tuple(primes.index(size) if size in primes else None for size in result.shape)


def reshaped_axes(before: Sequence[int], after: Sequence[int]) -> Axes:
    """Where each axis of a reshaped Tensor comes from; None where axes were merged or split."""
    sources = [(axis, size) for axis, size in enumerate(before) if size != 1]
    origin: list[int | None] = [None] * len(after)
    ahead = behind = 1  # products of the sizes passed so far
    position = 0
    for axis, size in enumerate(after):
        if size == 1:
            continue
        aligned = ahead == behind and position < len(sources)
        if aligned and sources[position][1] == size:
            origin[axis] = sources[position][0]
        ahead *= size
        while behind < ahead and position < len(sources):
            behind *= sources[position][1]
            position += 1
    return tuple(origin)


def indexed_axes(index: Any, ndim: int) -> Axes | None:
    """Where each axis of an indexed Tensor comes from; None for an index by Tensors or lists."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if not all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts):
        return None
    taken = sum(part is not None and part is not Ellipsis for part in parts)
    if Ellipsis not in parts:
        parts.append(Ellipsis)
    origin: list[int | None] = []
    axis = 0
    for part in parts:
        if part is Ellipsis:
            origin += range(axis, axis + ndim - taken)
            axis += ndim - taken
        elif part is None:
            origin.append(None)
        else:
            if isinstance(part, slice):
                origin.append(axis)
            axis += 1
    return tuple(origin)
