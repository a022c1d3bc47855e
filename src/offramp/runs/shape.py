"""Shapes: what a file of a run folder must hold, and one clear line where it holds something else.

A shape is a :class:`Rule` of a single value; a dict of the keys that must be there (but for :class:`Maybe`)
with their shapes; :class:`Named`, a dict with keys of any name; a list with the shape of its items; or
:class:`OrNone`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offramp.checks import is_number
from offramp.errors import UserError, shown

__all__ = [
    "AMOUNT", "COUNT", "METRIC", "NUMBER", "PERCENT", "POSITIVE", "TEXT", "Maybe", "Named", "OrNone", "Rule",
    "at_least", "check_shape", "damage", "one_of", "remedy",
]  # fmt: skip

# What can be done without a file, in place of training anew.
_INSTEAD = {
    "last_epochs.json": "delete it: the mean then lacks its epochs",
    "metrics.csv": "delete it: times and curves are then missing",
}
LARGEST = 1e150  # whose square is a number, so that deviations over runs are


@dataclass(frozen=True)
class Rule:
    """What a single value must be.

    Attributes:
        words: The rule, as a message says it after "must be".
        allows: Whether a value, of any type, keeps to it.
    """

    words: str
    allows: Callable[[Any], bool]


@dataclass(frozen=True)
class Maybe:
    """A key that may be missing, and the shape of what it holds."""

    shape: Any


@dataclass(frozen=True)
class OrNone:
    """Null, or what has another shape."""

    shape: Any


@dataclass(frozen=True)
class Named:
    """A dict with keys of any name, and the shape of what each holds."""

    shape: Any


def at_least(least: int) -> Rule:
    """A whole number of at least so much."""
    return Rule(
        f"a whole number of at least {least}", lambda value: type(value) is int and least <= value < 2**63
    )


def one_of(*words: str) -> Rule:
    """One of a few words."""
    return Rule(" or ".join(words), lambda value: isinstance(value, str) and value in words)


def _is_metric(value: Any) -> bool:
    """NaN is the mean over nothing, infinity what no float can hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return True
    return is_number(value) and abs(value) <= LARGEST


TEXT = Rule("text", lambda value: isinstance(value, str))
NUMBER = Rule(f"a number of at most {LARGEST:g}", lambda value: is_number(value) and abs(value) <= LARGEST)
AMOUNT = Rule(f"a number from 0 to {LARGEST:g}", lambda value: is_number(value) and 0 <= value <= LARGEST)
POSITIVE = Rule(
    f"a number above 0 and at most {LARGEST:g}", lambda value: is_number(value) and 0 < value <= LARGEST
)
METRIC = Rule(f"a number of at most {LARGEST:g}, or no number (NaN)", _is_metric)
PERCENT = Rule(
    "a number from 0 to 100", lambda value: _is_metric(value) and (math.isnan(value) or 0 <= value <= 100)
)
COUNT = at_least(0)


def check_shape(content: Any, shape: Any, path: Path, key: str = "") -> None:
    """Check that a file of a run folder has the required content.

    Args:
        content: What the file holds under the key.
        shape: A shape.
        path: The file.
        key: Position in it, e.g. ``data.source``; "" is all of it.

    Raises:
        UserError: A key is missing or holds something else; the line names file and key.
    """
    if isinstance(shape, OrNone):
        if content is not None:
            check_shape(content, shape.shape, path, key)
    elif isinstance(shape, Rule):
        if not shape.allows(content):
            raise damage(content, path, key, shape.words)
    elif isinstance(shape, list):
        if not isinstance(content, list):
            raise damage(content, path, key, "a list")
        for place, item in enumerate(content):
            check_shape(item, shape[0], path, f"{key}[{place}]")
    elif not isinstance(content, dict):
        raise damage(content, path, key, "a mapping")
    elif isinstance(shape, Named):
        for name, item in content.items():
            check_shape(item, shape.shape, path, _inside(key, name))
    else:
        for name, inner in shape.items():
            needed = not isinstance(inner, Maybe)
            if name in content:
                check_shape(content[name], inner if needed else inner.shape, path, _inside(key, name))
            elif needed:
                raise UserError(
                    f"{path.parent}: no {shown(_inside(key, name))} in its {path.name}; {remedy(path)}"
                )


def damage(content: Any, path: Path, key: str, must_be: str) -> UserError:
    """The error of content that is not what it must be.

    Args:
        content: What the file holds under the key.
        path: The file.
        key: Position in it.
        must_be: What it must be, in words.
    """
    what = f"{shown(key)} in its {path.name}" if key else f"its {path.name}"
    return UserError(f"{path.parent}: {what} is {shown(content)}, must be {must_be}; {remedy(path)}")


def remedy(path: Path) -> str:
    """What to do about a damaged file of a run."""
    return f"restore it from a copy, or {_INSTEAD.get(path.name, 'train anew')}"


def _inside(key: str, name: object) -> str:
    """The position of a name under a key."""
    return f"{key}.{name}" if key else str(name)
