"""Beds, sofas, chairs, tables, and what stands about, of random size and paint."""

from __future__ import annotations

from offramp.data.rooms._draws import Draws, darker
from offramp.data.rooms._parts import STEEL, Furniture, legs, things
from offramp.data.rooms.scene import Box, Paint

__all__ = ["armchair", "bed", "carton", "chair", "floor_lamp", "sofa", "table"]


def bed(draw: Draws) -> Furniture:
    """A frame with a headboard, a mattress, a blanket over most of it, and one or two pillows."""
    width, depth, low = draw.between(0.95, 1.7), draw.between(1.9, 2.1), draw.between(0.25, 0.38)
    wood, sheet = draw.wood(), Paint(draw.colour(0.08, 0.85, 0.97))
    blanket = draw.fabric(0.5, 0.35, 0.9)
    w, d, top = width / 2, depth / 2, low + draw.between(0.16, 0.24)
    boxes = [
        Box((-w, 0.06, -d), (w, low, d), "bed", wood),
        Box((-w, 0, d - 0.05), (w, top + draw.between(0.25, 0.5), d), "bed", wood),
        Box((-w + 0.03, low, -d + 0.03), (w - 0.03, top, d - 0.06), "bed", sheet),
        Box(
            (-w + 0.01, low - 0.1, -d + 0.01),
            (w - 0.01, top + 0.03, d - draw.between(0.6, 0.9)),
            "bed",
            blanket,
        ),
    ]
    pillows = 2 if width > 1.3 else 1
    for side in range(pillows):
        middle = (side - (pillows - 1) / 2) * width / 2
        half = width / (2 * pillows) - 0.12
        boxes.append(
            Box(
                (middle - half, top, d - 0.48),
                (middle + half, top + 0.11, d - 0.1),
                "bed",
                draw.fabric(0.2, 0.8, 0.95),
            )
        )
    return Furniture(boxes, width, depth)


def sofa(draw: Draws) -> Furniture:
    """A base, a back, two arms, and a cushion for each seat."""
    return _seat(draw, draw.count(2, 3))


def armchair(draw: Draws) -> Furniture:
    """A sofa for one."""
    return _seat(draw, 1)


def _seat(draw: Draws, seats: int) -> Furniture:
    arm, seat_width = draw.between(0.14, 0.22), draw.between(0.55, 0.68)
    width, depth = seats * seat_width + 2 * arm, draw.between(0.8, 0.95)
    seat, back = draw.between(0.38, 0.45), draw.between(0.75, 0.9)
    cloth = draw.fabric(0.6, 0.3, 0.75)
    cushion = cloth._replace(colour=darker(cloth.colour, 1.1))
    w, d = width / 2, depth / 2
    boxes = [
        Box((-w + 0.02, 0.05, -d + 0.02), (w - 0.02, seat - 0.14, d), "sofa", cloth),
        Box((-w + 0.01, 0.1, d - 0.22), (w - 0.01, back, d - 0.01), "sofa", cloth),
        Box((-w, 0.03, -d), (-w + arm, seat + 0.2, d - 0.02), "sofa", cloth),
        Box((w - arm, 0.03, -d), (w, seat + 0.2, d - 0.02), "sofa", cloth),
    ]
    for number in range(seats):
        left = -w + arm + number * seat_width
        boxes.append(
            Box(
                (left + 0.01, seat - 0.13, -d + 0.01),
                (left + seat_width - 0.01, seat, d - 0.2),
                "sofa",
                cushion,
            )
        )
    if draw.chance(0.6):
        left = -w + arm + draw.between(0.05, 0.2)
        boxes.append(
            Box(
                (left, seat, d - 0.36),
                (left + 0.4, seat + 0.36, d - 0.24),
                "sofa",
                draw.fabric(0.7, 0.5, 0.95),
            )
        )
    return Furniture(boxes, width, depth)


def table(draw: Draws) -> Furniture:
    """A top on four legs: a dining table, a desk or a low coffee table; with things on it."""
    low = draw.chance(0.3)
    width, depth = draw.between(0.8, 1.5), draw.between(0.55, 0.85)
    top = draw.between(0.36, 0.48) if low else draw.between(0.7, 0.78)
    wood = draw.wood()
    below = wood if draw.chance(0.7) else STEEL
    boxes = [
        *legs("table", below, width - 0.08, depth - 0.08, top - 0.04, draw.between(0.04, 0.07)),
        Box((-width / 2, top - 0.04, -depth / 2), (width / 2, top, depth / 2), "table", wood),
        *things(draw, width, depth, top),
    ]
    return Furniture(boxes, width, depth)


def chair(draw: Draws) -> Furniture:
    """A seat on four legs, with a back."""
    width, seat, back = draw.between(0.4, 0.47), draw.between(0.43, 0.48), draw.between(0.85, 1.0)
    frame, w = draw.wood(), width / 2
    pad = frame if draw.chance(0.5) else draw.fabric(0.7, 0.3, 0.9)
    boxes = [
        *legs("chair", frame, width - 0.01, width - 0.01, seat - 0.04, 0.04),
        Box((-w, seat - 0.04, -w), (w, seat, w), "chair", pad),
        Box((-w, seat, w - 0.04), (-w + 0.04, back - 0.02, w), "chair", frame),
        Box((w - 0.04, seat, w - 0.04), (w, back - 0.02, w), "chair", frame),
        Box((-w + 0.01, seat + draw.between(0.12, 0.3), w - 0.05), (w - 0.01, back, w - 0.01), "chair", pad),
    ]
    return Furniture(boxes, width, width)


def floor_lamp(draw: Draws) -> Furniture:
    """A foot, a pole, and a glowing shade."""
    height, half = draw.between(1.35, 1.7), draw.between(0.13, 0.2)
    shade = Paint((1.0, 0.93, 0.75), glow=draw.between(0.3, 0.8))
    boxes = [
        Box((-0.14, 0, -0.14), (0.14, 0.03, 0.14), "objects", STEEL),
        Box((-0.02, 0.03, -0.02), (0.02, height - 0.25, 0.02), "objects", STEEL),
        Box((-half, height - 0.28, -half), (half, height, half), "objects", shade),
    ]
    return Furniture(boxes, 2 * half, 2 * half)


def carton(draw: Draws) -> Furniture:
    """One or two boxes of cardboard or colour, one on the other."""
    half, height = draw.between(0.15, 0.26), draw.between(0.22, 0.45)
    brown = (0.68, 0.52, 0.34)
    paint = (
        Paint(brown, darker(brown, 0.85), "stripes", 0.3)
        if draw.chance(0.5)
        else Paint(draw.colour(0.7, 0.4, 0.9))
    )
    boxes = [Box((-half, 0, -half), (half, height, half), "objects", paint)]
    if draw.chance(0.4):
        small = half * draw.between(0.5, 0.8)
        top = height + draw.between(0.1, 0.25)
        boxes.append(
            Box((-small, height, -small), (small, top, small), "objects", Paint(draw.colour(0.8, 0.4, 0.9)))
        )
    return Furniture(boxes, 2 * half, 2 * half)
