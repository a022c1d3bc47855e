"""Random numbers and paints of a scene."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from offramp.data.rooms.scene import Paint, Vector

__all__ = ["Draws"]

T = TypeVar("T")
OAK, WALNUT = (0.80, 0.64, 0.44), (0.30, 0.19, 0.12)


class Draws:
    """A stream of random choices that follows from a key of whole numbers."""

    def __init__(self, *key: int) -> None:
        self._random = Random(" ".join(map(str, key))).random

    def between(self, low: float, high: float) -> float:
        """A number from low to high."""
        return low + (high - low) * self._random()

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self._random() < probability

    def count(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int((high + 1 - low) * self._random())

    def choice(self, options: Sequence[T]) -> T:
        """One of several."""
        return options[self.count(0, len(options) - 1)]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """All of them, in a random order."""
        left = list(options)
        return [left.pop(self.count(0, len(left) - 1)) for _ in options]

    def colour(self, saturation: float, low: float, high: float) -> Vector:
        """A colour of random hue, with its strongest component from low to high."""
        value, hue = self.between(low, high), (self._random(), self._random(), self._random())
        r, g, b = (value * (1 - saturation * (1 - part / max(hue))) for part in hue)
        return r, g, b

    def wood(self) -> Paint:
        """Wood from walnut to oak, or sometimes a coat of pale paint."""
        if self.chance(0.2):
            return Paint(self.colour(0.15, 0.75, 0.95))
        shade = self.between(0, 1)
        tone = mixed(WALNUT, OAK, shade)
        return Paint(tone, darker(tone, 0.8), "clouds", self.between(0.04, 0.12))

    def fabric(self, saturation: float = 0.5, low: float = 0.3, high: float = 0.75) -> Paint:
        """A woven colour: plain with a grain, striped, or a plaid."""
        colour = self.colour(saturation, low, high)
        pattern = self.choice(("speckles", "speckles", "stripes", "plaid"))
        period = 0.02 if pattern == "speckles" else self.between(0.08, 0.3)
        return Paint(colour, darker(colour, self.between(0.65, 0.85)), pattern, period)


def mixed(first: Vector, second: Vector, share: float) -> Vector:
    """A colour between two."""
    r, g, b = (a + (c - a) * share for a, c in zip(first, second, strict=True))
    return r, g, b


def darker(colour: Vector, share: float) -> Vector:
    """A colour with a share of its strength."""
    return colour[0] * share, colour[1] * share, colour[2] * share
