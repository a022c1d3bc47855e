"""What a room is made of: axis-aligned boxes in pieces of furniture that stand turned about the vertical."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["CLASSES", "Box", "Camera", "Light", "Paint", "Piece", "Room", "Scene"]

# The 13 classes of NYUv2 (Couprie et al., ICLR 2013), in the order in which its labels 0 ... 12 count them.
CLASSES = (
    "bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa", "table", "tv",
    "wall", "window",
)  # fmt: skip

Vector = tuple[float, float, float]


class Paint(NamedTuple):
    """Colour and texture of a surface.

    Attributes:
        colour: Red, green and blue, 0 ... 1.
        second: The other colour of the pattern.
        pattern: A key of ``PATTERNS`` in ``_textures``.
        period: Length in metres after which the pattern repeats, or the size of its grain.
        glow: Light that the surface gives off by itself, as a share of its colour.
    """

    colour: Vector
    second: Vector | None = None
    pattern: str = "plain"
    period: float = 0.1
    glow: float = 0.0


class Box(NamedTuple):
    """A box from corner `low` to corner `high`, in metres, in the frame of its piece."""

    low: Vector
    high: Vector
    kind: str
    paint: Paint


class Piece(NamedTuple):
    """Boxes that stand together: at (x, z) on the floor, turned by (cos, sin) of an angle about the vertical.

    In the piece's own frame, x goes to the right, y up and z to its back; a point (u, v, w) of it lies in the
    room at (x + cos u + sin w, v, z - sin u + cos w).
    """

    boxes: tuple[Box, ...]
    x: float = 0.0
    z: float = 0.0
    turn: tuple[float, float] = (1.0, 0.0)


class Room(NamedTuple):
    """The space from (0, 0, 0) to (width, height, depth), in metres; y goes up.

    Attributes:
        walls: Paints at x = 0, x = width, z = 0 and z = depth.
    """

    width: float
    height: float
    depth: float
    floor: Paint
    ceiling: Paint
    walls: tuple[Paint, Paint, Paint, Paint]


class Camera(NamedTuple):
    """A pinhole at a position, which looks along +z of the room, turned right by yaw, then up by pitch.

    Attributes:
        yaw: Cosine and sine of the angle.
        pitch: Cosine and sine of the angle.
        focal: Distance of the image plane, as a share of the image's width.
    """

    position: Vector
    yaw: tuple[float, float] = (1.0, 0.0)
    pitch: tuple[float, float] = (1.0, 0.0)
    focal: float = 0.75


class Light(NamedTuple):
    """A small lamp.

    Attributes:
        position: Where it hangs.
        strength: Red, green and blue at 1 m.
        radius: In metres: the larger, the softer its shadows. 0: it throws none.
    """

    position: Vector
    strength: Vector
    radius: float = 0.0


@dataclass(frozen=True)
class Scene:
    """A furnished, lit room, and a camera in it.

    Attributes:
        ambient: Light that comes from everywhere.
        seed: Seeds the grain of the picture.
    """

    room: Room
    camera: Camera
    pieces: tuple[Piece, ...] = ()
    lights: tuple[Light, ...] = ()
    ambient: float = 0.4
    seed: int = 0
