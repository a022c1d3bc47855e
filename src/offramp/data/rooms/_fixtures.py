"""What hangs on walls and from the ceiling: windows, pictures, the lamp."""

from __future__ import annotations

from offramp.data.rooms._draws import Draws
from offramp.data.rooms.scene import Box, Light, Paint, Piece, Room

__all__ = ["ceiling_lamp", "picture", "window"]


def window(draw: Draws) -> tuple[list[Box], float, float]:
    """A frame with a pane or two of sky, and a sill: its boxes, width and height in metres."""
    w, height = draw.between(0.45, 0.85), draw.between(0.9, 1.25)
    frame = Paint(draw.colour(0.05, 0.85, 0.97))
    sky = Paint(
        (0.72, 0.85, 1.0),
        draw.colour(0.3, 0.7, 0.95),
        "clouds",
        draw.between(0.25, 0.5),
        draw.between(0.5, 0.9),
    )
    boxes = [Box((-w, 0, -0.04), (w, height, 0), "window", frame)]
    panes = draw.count(1, 2)
    for pane in range(panes):
        left = -w + 0.05 + pane * (2 * w - 0.05) / panes
        right = left + (2 * w - 0.05) / panes - 0.05
        boxes.append(Box((left, 0.05, -0.045), (right, height - 0.05, -0.01), "window", sky))
    boxes.append(Box((-w - 0.06, -0.05, -0.12), (w + 0.06, 0, 0), "window", frame))
    return boxes, 2 * w + 0.12, height


def picture(draw: Draws) -> tuple[list[Box], float, float]:
    """A framed picture: its boxes, width and height in metres."""
    w, height, rim = draw.between(0.2, 0.55), draw.between(0.4, 0.8), draw.between(0.02, 0.05)
    frame = Paint(draw.choice(((0.1, 0.09, 0.08), (0.75, 0.6, 0.3), (0.95, 0.95, 0.93))))
    pattern = draw.choice(("clouds", "clouds", "checks", "stripes"))
    canvas = Paint(draw.colour(0.8, 0.5, 1.0), draw.colour(0.8, 0.3, 0.95), pattern, draw.between(0.08, 0.25))
    boxes = [
        Box((-w, 0, -0.03), (w, height, 0), "picture", frame),
        Box((-w + rim, rim, -0.034), (w - rim, height - rim, -0.01), "picture", canvas),
    ]
    return boxes, 2 * w, height


def ceiling_lamp(draw: Draws, room: Room) -> tuple[Piece, Light]:
    """A lamp that hangs somewhere about the middle of the ceiling, and its light."""
    x, z = draw.between(0.35, 0.65) * room.width, draw.between(0.4, 0.7) * room.depth
    half, drop = draw.between(0.12, 0.25), draw.between(0.1, 0.4)
    top = room.height - drop
    shade = Paint((1.0, 0.96, 0.85), glow=draw.between(0.5, 1.0))
    boxes = (
        Box((-0.015, top, -0.015), (0.015, room.height - 0.001, 0.015), "objects", Paint((0.2, 0.2, 0.2))),
        Box((-half, top - 0.1, -half), (half, top, half), "objects", shade),
    )
    warm = draw.between(0.7, 1.3)
    light = Light((x, top - 0.25, z), (1.05 * warm, 0.97 * warm, 0.82 * warm), radius=0.12)
    return Piece(boxes, x, z), light
