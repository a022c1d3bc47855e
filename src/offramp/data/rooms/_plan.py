"""The plan of a room: what stands where, so that nothing stands in something else or before the camera."""

from __future__ import annotations

import math

from offramp.data.rooms._draws import Draws
from offramp.data.rooms._parts import Furniture
from offramp.data.rooms.scene import Box, Camera, Piece, Room

__all__ = ["Plan"]

# Walls that the camera may see: (cos, sin) of the turn that puts a piece's back to it.
BACK, LEFT, RIGHT = (1.0, 0.0), (0.0, -1.0), (0.0, 1.0)
TRIES = 8  # places that are tried for a piece before it is left out


class Plan:
    """What has been placed in a room so far."""

    def __init__(self, draw: Draws, room: Room, camera: Camera) -> None:
        self.pieces: list[Piece] = []
        self._draw, self._room, self._camera = draw, room, camera
        self._taken: list[tuple[float, float, float, float]] = []  # x0, x1, z0, z1 on the floor
        # start, end and top of what stands at a wall or hangs on it
        self._hung: dict[tuple[float, float], list[tuple[float, float, float]]]
        self._hung = {BACK: [], LEFT: [], RIGHT: []}

    def at_wall(self, item: Furniture) -> None:
        """Put a piece with its back to a wall, where there is room."""
        for _ in range(TRIES):
            wall = self._draw.choice((BACK, BACK, LEFT, RIGHT))
            along = self._draw.between(0, 1)
            x, z = self._at(wall, along, item.width, item.depth / 2 + 0.01)
            if self.put(item, x, z, wall):
                middle = x if wall == BACK else z
                self._hung[wall].append((middle - item.width / 2, middle + item.width / 2, item.height))
                return

    def anywhere(self, item: Furniture, *, turned: bool = True) -> tuple[float, float] | None:
        """Put a piece somewhere on the floor, where there is room; returns the place."""
        for _ in range(TRIES):
            angle = self._draw.between(-math.pi, math.pi) if turned else 0.0
            x = self._draw.between(0.1, 0.9) * self._room.width
            z = self._draw.between(0.35, 0.9) * self._room.depth
            if self.put(item, x, z, (math.cos(angle), math.sin(angle))):
                return x, z
        return None

    def put(self, item: Furniture, x: float, z: float, turn: tuple[float, float]) -> bool:
        """Put a piece at a place unless something is there, or the camera is near."""
        w = (abs(turn[0]) * item.width + abs(turn[1]) * item.depth) / 2
        d = (abs(turn[1]) * item.width + abs(turn[0]) * item.depth) / 2
        area = x - w, x + w, z - d, z + d
        inside = area[0] >= 0 and area[1] <= self._room.width and area[2] >= 0 and area[3] <= self._room.depth
        free = all(area[0] > b or area[1] < a or area[2] > f or area[3] < e for a, b, e, f in self._taken)
        if not (inside and free and self._far_from_camera(area, item.height)):
            return False
        self._taken.append(area)
        self.pieces.append(Piece(tuple(item.boxes), x, z, turn))
        return True

    def on_wall(self, boxes: list[Box], width: float, height: float, *, low: float) -> None:
        """Hang something on a wall, at `low` or higher, where there is room."""
        bottom = min(low + self._draw.between(0, 0.25), self._room.height - height - 0.1)
        for _ in range(TRIES):
            wall = self._draw.choice((BACK, BACK, LEFT, RIGHT))
            x, z = self._at(wall, self._draw.between(0, 1), width, 0.001)
            middle = x if wall == BACK else z
            start, end = middle - width / 2 - 0.05, middle + width / 2 + 0.05
            free = all(start > b or end < a or top < bottom for a, b, top in self._hung[wall])
            if free and (wall == BACK or z > self._camera.position[2] + 0.8):
                self._hung[wall].append((start, end, self._room.height))
                raised = [
                    box._replace(
                        low=(box.low[0], box.low[1] + bottom, box.low[2]),
                        high=(box.high[0], box.high[1] + bottom, box.high[2]),
                    )
                    for box in boxes
                ]
                self.pieces.append(Piece(tuple(raised), x, z, wall))
                return

    def _at(self, wall: tuple[float, float], along: float, width: float, out: float) -> tuple[float, float]:
        """Place of a piece `along` a wall (0 ... 1) whose middle is `out` metres from it."""
        length = self._room.width if wall == BACK else self._room.depth
        middle = width / 2 + along * (length - width)
        if wall == BACK:
            return middle, self._room.depth - out
        return (out if wall == LEFT else self._room.width - out), middle

    def _far_from_camera(self, area: tuple[float, float, float, float], height: float) -> bool:
        x, _, z = self._camera.position
        gap_x, gap_z = max(area[0] - x, x - area[1], 0), max(area[2] - z, z - area[3], 0)
        return math.hypot(gap_x, gap_z) > (0.8 if height < 1.0 else 1.4)
