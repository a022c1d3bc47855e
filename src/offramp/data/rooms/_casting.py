"""Rays that meet boxes: the slab method (Kay & Kajiya, SIGGRAPH 1986), over all pixels at once.

Every ray is tried against the bounds of each piece of furniture, and only those that meet them against its
boxes. Rays are ``[3, P]`` float32 with their axes x, y, z in front.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from offramp.data.rooms.scene import Piece, Room

__all__ = ["Floats", "Hits", "Integers", "PieceBoxes", "blocked", "first_hits", "turned"]

Floats = NDArray[np.floating[Any]]  # float32
Integers = NDArray[np.int64]

MARGIN = np.float32(1e-3)  # metres that bounds are wider, for rounding


class PieceBoxes(NamedTuple):
    """The boxes of a piece as arrays.

    Attributes:
        low: Lower corners, in the frame of the piece, ``[B, 3]``.
        high: Upper corners.
        origin: Where the piece stands in the room, ``[3]``.
        turn: Cosine and sine of the angle that it is turned by.
        bounds: Lower and upper corner of a box of the room that holds them all, ``[3, 1]`` each.
    """

    low: Floats
    high: Floats
    origin: Floats
    turn: tuple[np.float32, np.float32]
    bounds: tuple[Floats, Floats]

    @classmethod
    def of(cls, piece: Piece) -> PieceBoxes:
        """The arrays of a piece."""
        low = np.array([box.low for box in piece.boxes], np.float32)
        high = np.array([box.high for box in piece.boxes], np.float32)
        origin = np.array([piece.x, 0, piece.z], np.float32)
        turn = np.float32(piece.turn[0]), np.float32(piece.turn[1])
        corners = np.array(list(product(*zip(low.min(0), high.max(0), strict=True))), np.float32).T
        placed = turned(corners, turn) + origin[:, None]
        bounds = placed.min(1, keepdims=True) - MARGIN, placed.max(1, keepdims=True) + MARGIN
        return cls(low, high, origin, turn, bounds)

    def crossing(self, points: Floats, directions: Floats) -> tuple[Floats, Floats]:
        """Where rays enter and leave each box, in lengths of their directions: ``[B, P]`` each.

        Args:
            points: Where the rays start, ``[3, P]`` or ``[3, 1]``.
            directions: ``[3, P]``.
        """
        back = self.turn[0], -self.turn[1]
        start, inverse = turned(points - self.origin[:, None], back), 1 / turned(directions, back)
        return _crossing(self.low.T[..., None], self.high.T[..., None], start[:, None], inverse[:, None])


class Hits(NamedTuple):
    """What each of P rays meets first.

    Attributes:
        distance: In lengths of the ray's direction.
        box: Number of the box, counted through all pieces; -1 is the room.
    """

    distance: Floats
    box: Integers


def turned(vectors: Floats, turn: tuple[Any, Any]) -> Floats:
    """Vectors ``[3, P]`` turned about the vertical by the (cos, sin) of an angle, one or ``[P]``."""
    (x, y, z), (cos, sin) = vectors, turn
    return np.stack([cos * x + sin * z, y, cos * z - sin * x])


def first_hits(origin: Floats, directions: Floats, room: Room, pieces: Sequence[PieceBoxes]) -> Hits:
    """The nearest surface along each ray from a point in the room and in no box.

    Args:
        origin: ``[3, 1]``.
        directions: ``[3, P]``, no component exactly 0.
        room: Whose walls end every ray.
        pieces: The furniture.
    """
    size = np.array([[room.width], [room.height], [room.depth]], np.float32)
    inverse = 1 / directions
    distance: Floats = np.maximum(-origin * inverse, (size - origin) * inverse).min(0)
    box = np.full(distance.shape, -1)
    first = 0
    for piece in pieces:
        near, far = _crossing(*piece.bounds, origin, inverse)
        met = np.flatnonzero((near < np.minimum(far, distance)) & (far > 0))
        if len(met):
            near, far = piece.crossing(origin, directions[:, met])
            near[(near > far) | (near <= 0)] = np.inf
            nearest = near.argmin(0)
            reached = near[nearest, np.arange(len(met))]
            closer = reached < distance[met]
            distance[met[closer]] = reached[closer]
            box[met[closer]] = first + nearest[closer]
        first += len(piece.low)
    return Hits(distance, box)


def blocked(points: Floats, directions: Floats, pieces: Sequence[PieceBoxes]) -> NDArray[np.bool_]:
    """Whether a box lies between each point and the point that its direction leads to; ``[3, P]`` each."""
    shadow = np.zeros(points.shape[1], bool)
    inverse = 1 / directions
    for piece in pieces:
        near, far = _crossing(*piece.bounds, points, inverse)
        met = np.flatnonzero((near < np.minimum(far, 1)) & (far > 0) & ~shadow)
        if len(met):
            near, far = piece.crossing(points[:, met], directions[:, met])
            shadow[met] = ((near < np.minimum(far, 1)) & (far > 0)).any(0)
    return shadow


def _crossing(low: Floats, high: Floats, points: Floats, inverse: Floats) -> tuple[Floats, Floats]:
    """Where rays enter and leave boxes, in lengths of their directions; they miss where near > far."""
    near, far = np.float32(-np.inf), np.float32(np.inf)
    for lower, upper, start, slope in zip(low, high, points, inverse, strict=True):
        to_low, to_high = (lower - start) * slope, (upper - start) * slope
        near = np.maximum(near, np.minimum(to_low, to_high))
        far = np.minimum(far, np.maximum(to_low, to_high))
    return near, far
