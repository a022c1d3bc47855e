"""Shelves, cabinets, wardrobes and televisions, of random size and paint."""

from __future__ import annotations

from offramp.data.rooms._draws import Draws, darker
from offramp.data.rooms._parts import STEEL, Furniture, book, things
from offramp.data.rooms.scene import Box, Paint

__all__ = ["cabinet", "shelf", "television", "wardrobe"]

SCREEN = Paint((0.07, 0.08, 0.11), (0.14, 0.18, 0.26), "clouds", 0.5)
BLACK = Paint((0.06, 0.06, 0.07))


def shelf(draw: Draws) -> Furniture:
    """Two sides, a back and boards, with rows of books and some objects between them."""
    width, depth, height = draw.between(0.7, 1.1), draw.between(0.28, 0.36), draw.between(1.3, 2.0)
    wood, board = draw.wood(), 0.03
    w, d = width / 2, depth / 2
    boxes = [
        Box((-w, 0, -d), (-w + board, height, d), "furniture", wood),
        Box((w - board, 0, -d), (w, height, d), "furniture", wood),
        Box((-w + board, 0, d - 0.02), (w - board, height, d), "furniture", wood),
    ]
    levels = draw.count(3, 5)
    gap = (height - 0.08) / levels
    for level in range(levels + 1):
        y = 0.05 + level * gap
        boxes.append(Box((-w + board, y - board, -d + 0.01), (w - board, y, d - 0.02), "furniture", wood))
        if level < levels:
            boxes += _row(draw, -w + board + 0.01, w - board - 0.01, y, gap - board - 0.02, d)
    return Furniture(boxes, width, depth)


def _row(draw: Draws, left: float, right: float, y: float, room: float, d: float) -> list[Box]:
    """Books side by side for some of a board's length, then perhaps an object."""
    boxes: list[Box] = []
    end = left + (right - left) * draw.between(0.3, 1.0)
    while left < end - 0.05:
        thick = draw.between(0.05, 0.14)  # a few volumes of one series
        x = min(left + thick, end)
        top = y + room * draw.between(0.6, 0.95)
        boxes.append(
            Box((left, y, -d + draw.between(0.03, 0.08)), (x - 0.004, top, d - 0.05), "books", book(draw))
        )
        left = x
    if right - left > 0.16:
        x = (left + right) / 2
        size = draw.between(0.04, 0.07)
        top = y + room * draw.between(0.3, 0.8)
        boxes.append(
            Box((x - size, y, -size), (x + size, top, size), "objects", Paint(draw.colour(0.7, 0.4, 1.0)))
        )
    return boxes


def cabinet(draw: Draws) -> Furniture:
    """A chest with two columns of drawers, with things on it."""
    width, depth, height = draw.between(0.9, 1.5), draw.between(0.4, 0.5), draw.between(0.5, 0.95)
    return _drawers(draw, width, depth, height, columns=2, rows=draw.count(2, 3), topped=True)


def wardrobe(draw: Draws) -> Furniture:
    """A tall cupboard with two or three doors."""
    width, depth, height = draw.between(0.9, 1.6), draw.between(0.55, 0.62), draw.between(1.8, 2.15)
    return _drawers(draw, width, depth, height, columns=draw.count(2, 3), rows=1, topped=False)


def _drawers(
    draw: Draws, width: float, depth: float, height: float, *, columns: int, rows: int, topped: bool
) -> Furniture:
    wood = draw.wood()
    front = wood if draw.chance(0.6) else draw.wood()
    body = wood._replace(colour=darker(wood.colour, 0.75))
    w, d = width / 2, depth / 2
    boxes = [Box((-w, 0, -d + 0.03), (w, height, d), "furniture", body)]
    across, up = (width - 0.02) / columns, (height - 0.08) / rows
    for column in range(columns):
        for row in range(rows):
            x, y = -w + 0.01 + column * across, 0.06 + row * up
            boxes.append(
                Box(
                    (x + 0.008, y, -d + 0.01),
                    (x + across - 0.008, y + up - 0.016, -d + 0.04),
                    "furniture",
                    front,
                )
            )
            middle = x + across / 2
            knob = Box(
                (middle - 0.05, y + up * 0.5, -d),
                (middle + 0.05, y + up * 0.5 + 0.02, -d + 0.01),
                "furniture",
                STEEL,
            )
            boxes.append(knob)
    if topped:
        boxes += things(draw, width, depth, height)
    return Furniture(boxes, width, depth)


def television(draw: Draws) -> Furniture:
    """A screen with a foot, on a low stand."""
    width, depth, height = draw.between(1.2, 1.7), draw.between(0.38, 0.45), draw.between(0.4, 0.55)
    stand = _drawers(draw, width, depth, height, columns=2, rows=1, topped=False)
    half = draw.between(0.4, 0.58)
    tall = half * 1.125
    boxes = [
        *stand.boxes,
        Box((-0.15, height, -0.08), (0.15, height + 0.02, 0.08), "tv", BLACK),
        Box((-0.03, height + 0.02, -0.02), (0.03, height + 0.06, 0.02), "tv", BLACK),
        Box((-half, height + 0.06, -0.03), (half, height + 0.06 + tall, 0.03), "tv", BLACK),
        Box((-half + 0.02, height + 0.08, -0.034), (half - 0.02, height + 0.04 + tall, 0), "tv", SCREEN),
    ]
    return Furniture(boxes, width, depth)
