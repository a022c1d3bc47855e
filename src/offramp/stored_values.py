"""Checks of values read from a file: finite, within bounds, of the kind of those whose place they take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from offramp.checks import is_number
from offramp.errors import shown

__all__ = ["check_finite", "check_like", "check_whole"]


def check_like(found: Any, now: Any, name: str) -> None:
    """Check that a stored value could stand in place of one that is there now.

    Mappings have the same keys, lists the same length, tensors the same shape and type; numbers are finite.

    Args:
        found: The stored value.
        now: What is there; plain values and tensors.
        name: What a message calls it.

    Raises:
        ValueError: It could not.
    """
    if isinstance(now, Tensor):
        _check_tensor(found, now, name)
    elif isinstance(now, Mapping):
        if not isinstance(found, Mapping):
            raise ValueError(f"{name} is {shown(found)}, must be a mapping")
        for key in (*now, *found):
            if key not in found or key not in now:
                has = "is missing" if key in now else "is not known here"
                raise ValueError(f"{name}: {shown(key)} {has}")
            check_like(found[key], now[key], f"{name}.{key}")
    elif isinstance(now, (list, tuple)):
        if type(found) is not type(now) or len(found) != len(now):
            raise ValueError(f"{name} is {shown(found)}, must be {len(now)} values")
        for place, (one, other) in enumerate(zip(found, now, strict=True)):
            check_like(one, other, f"{name}[{place}]")
    elif not (is_number(found) if isinstance(now, float) else type(found) is type(now)):
        kind = "a number" if isinstance(now, float) else f"such as {shown(now)}"
        raise ValueError(f"{name} is {shown(found)}, must be {kind}")


def check_finite(found: Any, name: str) -> None:
    """Check that plain values and tensors, however nested, hold neither NaN nor infinity.

    Raises:
        ValueError: One does, or is of another kind.
    """
    if isinstance(found, Tensor):
        if found.is_meta or found.layout != torch.strided:
            raise ValueError(f"{name} is a tensor without plain values")
        if not bool(found.isfinite().all()):
            raise ValueError(f"{name} is not finite")
    elif isinstance(found, Mapping):
        for key, value in found.items():
            check_finite(value, f"{name}.{key}")
    elif isinstance(found, (list, tuple)):
        for place, value in enumerate(found):
            check_finite(value, f"{name}[{place}]")
    elif isinstance(found, float) and not math.isfinite(found):
        raise ValueError(f"{name} is {found}")


def check_whole(found: Any, name: str, least: int, most: int | None = None) -> None:
    """Check that a stored value is a whole number within bounds.

    Raises:
        ValueError: It is not.
    """
    if type(found) is not int or found < least or (most is not None and found > most):
        bound = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} is {shown(found)}, must be a whole number {bound}")


def _check_tensor(found: Any, now: Tensor, name: str) -> None:
    if not isinstance(found, Tensor):
        raise ValueError(f"{name} is {shown(found)}, must be a tensor")
    kinds: Sequence[tuple[str, Any, Any]] = (
        ("of shape", tuple(found.shape), tuple(now.shape)),
        ("of type", found.dtype, now.dtype),
    )
    for word, one, other in kinds:
        if one != other:
            raise ValueError(f"{name} is {word} {one}, must be {word} {other}")
    check_finite(found, name)
