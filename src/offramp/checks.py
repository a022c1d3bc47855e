"""What an option, a setting or a field of a frozen record may be; each check says it in the same words."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, TypeGuard

from offramp.errors import UserError, an_object, guess, shown
from offramp.paths import user_path

__all__ = [
    "MOST_THREADS",
    "choice",
    "count_of",
    "described",
    "flag",
    "is_number",
    "is_thread_count",
    "number",
    "numbers",
    "of_kind",
    "path_of",
    "paths_of",
    "plain",
    "switch",
    "whole",
    "word_of",
]

MOST_THREADS = 4096  # more than any machine has for one process
_PLAIN = (str, bytes, int, float, list, tuple, dict, set, frozenset, os.PathLike, type(None))


def described(value: object) -> str:
    """A value as a message shows it: plain ones as they are, others by their class."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return shown(value) if isinstance(value, _PLAIN) else an_object(value)


def of_kind(name: str, value: object, kinds: Any, must: str) -> None:
    """Check the type of an argument.

    Args:
        name: The argument.
        value: What was given for it.
        kinds: What it may be, as ``isinstance`` takes it.
        must: What it must be, in words, with an example.

    Raises:
        UserError: It is something else.
    """
    if not isinstance(value, kinds):
        raise UserError(f"{name} is {described(value)}, must be {must}")


def flag(name: str, value: object) -> None:
    """Refuse all but true and false for an argument.

    Raises:
        UserError: It is something else.
    """
    of_kind(name, value, bool, "true or false")


def word_of(name: str, value: object, words: Collection[str], noun: str) -> str:
    """Check that an argument is one of a few words.

    Args:
        name: The argument.
        value: What was given for it.
        words: Those that it may be.
        noun: What they are, e.g. ``"counting convention"``.

    Raises:
        UserError: It is something else.
    """
    if not isinstance(value, str):
        raise UserError(f"{name} is {described(value)}, must be one of: {', '.join(words)}")
    if value not in words:
        raise UserError(f"no {noun} {shown(value)}{guess(value, words)}; there are: {', '.join(words)}")
    return value


def path_of(name: str, value: object, of: str) -> Path:
    """An argument as a path, its ``~`` as a home folder.

    One to write to is looked at by :mod:`offramp.output_paths` too.

    Args:
        name: The argument.
        value: What was given for it.
        of: What the path is of.

    Raises:
        UserError: It is no text and no Path, is empty, or has a character that no path has.
    """
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str) or not text or "\0" in text:
        raise UserError(f"{name} is {described(value)}, must be the path of {of}")
    return user_path(text)


def paths_of(name: str, value: object, of: str) -> list[str | Path]:
    """Check that an argument is several paths, as a list or whatever else gives one after the other.

    Args:
        name: The argument.
        value: What was given for it.
        of: What the paths are of.

    Raises:
        UserError: It is something else, also one path alone.
    """
    try:
        each = None if isinstance(value, str | bytes | os.PathLike) else [*value]  # type: ignore[misc]
    except Exception:  # of its own __iter__
        each = None
    if each is None:
        raise UserError(f"{name} are {described(value)}, must be a list of paths, of {of}")
    for path in each:
        path_of(name, path, of)
    return each


def count_of(name: str, value: object, least: int = 1) -> int:
    """Check that an argument is a whole number of at least so much.

    Raises:
        UserError: It is something else.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
        raise UserError(f"{name} is {described(value)}, must be a whole number of at least {least}")
    return int(value)


def plain(value: Any, levels: int = 4) -> Any:
    """A value with numpy's scalars and arrays as Python's numbers and lists, which files can hold.

    Args:
        value: Anything, also a list that holds itself.
        levels: How deep to look, deeper than any setting is.
    """
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    if levels and isinstance(value, (list, tuple)):
        return type(value)(plain(item, levels - 1) for item in value)
    if levels and type(value) is dict:
        return {key: plain(item, levels - 1) for key, item in value.items()}
    return value


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
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value not in choices:
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
