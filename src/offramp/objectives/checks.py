"""What the options of an objective may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from offramp.errors import UserError, guess
from offramp.objectives.objective import Objective

__all__ = ["choice", "number", "switch"]


def number(objective: Objective, name: str, bounds: str, allowed: Callable[[float], bool]) -> None:
    """A finite number within bounds."""
    value = getattr(objective, name)
    real = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not real or not allowed(value):
        raise UserError(f"{name} is {value!r}, must be a number {bounds}")


def choice(objective: Objective, name: str, choices: Sequence[str | int]) -> None:
    """One of a few values."""
    value = getattr(objective, name)
    if isinstance(value, bool) or value not in choices:
        words = [str(word) for word in choices]
        raise UserError(f"{name} is {value!r}{guess(value, words)}, must be {' or '.join(words)}")


def switch(objective: Objective, name: str) -> None:
    """True or false."""
    value = getattr(objective, name)
    if not isinstance(value, bool):
        raise UserError(f"{name} is {value!r}, must be true or false")
