"""What pieces of furniture have in common: legs, books, and the things that stand on them.

A piece stands in a frame of its own: x from -width/2 to width/2, y up from the floor, z from -depth/2 (front)
to depth/2 (back, at the wall).
"""

from __future__ import annotations

from typing import NamedTuple

from offramp.data.rooms._draws import Draws, darker
from offramp.data.rooms.scene import Box, Paint

__all__ = ["STEEL", "Furniture", "book", "legs", "things"]

STEEL = Paint((0.55, 0.56, 0.58))


class Furniture(NamedTuple):
    """Boxes, and how much of the floor they take, in metres."""

    boxes: list[Box]
    width: float
    depth: float

    @property
    def height(self) -> float:
        """Height of the highest box, in metres."""
        return max(box.high[1] for box in self.boxes)


def legs(kind: str, paint: Paint, width: float, depth: float, height: float, thick: float) -> list[Box]:
    """Four square legs at the corners of a piece of furniture."""
    return [
        Box((x, 0, z), (x + thick, height, z + thick), kind, paint)
        for x in (-width / 2, width / 2 - thick)
        for z in (-depth / 2, depth / 2 - thick)
    ]


def things(draw: Draws, width: float, depth: float, top: float) -> list[Box]:
    """A stack of books, and small objects, side by side."""
    boxes: list[Box] = []
    slots = draw.shuffled([-0.33, 0.0, 0.33])[: draw.count(1, 3)]
    for number, slot in enumerate(slots):
        x, z = slot * width, draw.between(-0.15, 0.15) * depth
        if number == 0 and draw.chance(0.6):
            level = top
            for _ in range(draw.count(2, 4)):
                w, d, h = draw.between(0.08, 0.12), draw.between(0.1, 0.15), draw.between(0.025, 0.05)
                boxes.append(Box((x - w, level, z - d), (x + w, level + h, z + d), "books", book(draw)))
                level += h
        else:
            w, h = draw.between(0.04, 0.1), draw.between(0.1, 0.3)
            paint = Paint(draw.colour(0.8, 0.4, 1.0))
            boxes.append(Box((x - w, top, z - w), (x + w, top + h, z + w), "objects", paint))
    return boxes


def book(draw: Draws) -> Paint:
    """The paint of a book: a colour with darker stripes."""
    colour = draw.colour(0.85, 0.35, 0.95)
    return Paint(colour, darker(colour, 0.55), "stripes", draw.between(0.04, 0.1))
