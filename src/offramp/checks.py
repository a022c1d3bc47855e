"""What an option, a setting or a field of a frozen record may be; each check says it in the same words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeGuard

from offramp.errors import UserError, guess, shown

__all__ = ["MOST_THREADS", "choice", "is_number", "is_thread_count", "number", "numbers", "switch", "whole"]

MOST_THREADS = 4096  # more than any machine has for one process


def is_number(value: object) -> bool:
    """Whether a value is a finite number; true and false are none."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def number(part: object, name: str, bounds: str, allowed: Callable[[float], bool]) -> None:
    """Check that an option is a finite number within bounds.

    Args:
        part: What has the option.
        name: The option.
        bounds: Which numbers are allowed, in words.
        allowed: Whether a number is.

    Raises:
        UserError: It is none, or out of bounds.
    """
    value = getattr(part, name)
    if not is_number(value) or not allowed(value):
        raise UserError(f"{name} is {shown(value)}, must be a number {bounds}")


def numbers(
    part: object, name: str, bounds: str, allowed: Callable[[Sequence[float]], bool]
) -> tuple[float, ...]:
    """Refuse all but a list of finite numbers within bounds.

    Args:
        part: What has the option.
        name: The option, a plural.
        bounds: What it must be, in words.
        allowed: Whether numbers, at least one, are.

    Returns:
        The numbers, which a frozen record keeps as a tuple.

    Raises:
        UserError: It is something else, or out of bounds.
    """
    value = getattr(part, name)
    listed = isinstance(value, (list, tuple)) and value and all(map(is_number, value))
    if not listed or not allowed(value):
        raise UserError(f"{name} are {shown(value)}, must be {bounds}")
    return tuple(value)


def whole(part: object, name: str, least: int, *, below: int = 2**63) -> None:
    """Refuse all but a whole number of at least so much, and below a bound.

    Raises:
        UserError: It is none, or out of bounds.
    """
    value = getattr(part, name)
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if not fits or value >= below:
        bound = f" and below {below}" if below < 2**63 or fits else ""
        raise UserError(f"{name} is {shown(value)}, must be a whole number of at least {least}{bound}")


def choice(part: object, name: str, choices: Sequence[str | int]) -> None:
    """Check that an option is one of a few values.

    Raises:
        UserError: It is another one.
    """
    value = getattr(part, name)
    if isinstance(value, bool) or value not in choices:
        words = [str(word) for word in choices]
        either = " or ".join([", ".join(words[:-1]), words[-1]])
        raise UserError(f"{name} is {shown(value)}{guess(value, words)}, must be {either}")


def switch(part: object, name: str) -> None:
    """Refuse all but true and false.

    Raises:
        UserError: It is something else.
    """
    value = getattr(part, name)
    if not isinstance(value, bool):
        raise UserError(f"{name} is {shown(value)}, must be true or false")


def is_thread_count(value: object) -> TypeGuard[int]:
    """Whether torch can be asked for so many threads."""
    return type(value) is int and 1 <= value <= MOST_THREADS
