"""What the options of a method may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from offramp.errors import UserError, guess

__all__ = ["choice", "is_number", "number", "switch"]


def is_number(value: object) -> bool:
    """Whether a value is a finite number; true and false are none."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def number(part: object, name: str, bounds: str, allowed: Callable[[float], bool]) -> None:
    """A finite number within bounds."""
    value = getattr(part, name)
    if not is_number(value) or not allowed(value):
        raise UserError(f"{name} is {value!r}, must be a number {bounds}")


def choice(part: object, name: str, choices: Sequence[str | int]) -> None:
    """One of a few values."""
    value = getattr(part, name)
    if isinstance(value, bool) or value not in choices:
        words = [str(word) for word in choices]
        raise UserError(f"{name} is {value!r}{guess(value, words)}, must be {' or '.join(words)}")


def switch(part: object, name: str) -> None:
    """True or false."""
    value = getattr(part, name)
    if not isinstance(value, bool):
        raise UserError(f"{name} is {value!r}, must be true or false")
