"""The point of a surface that each pixel sees: where it is, which way it faces, and what paint it has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offramp.data.rooms._casting import Floats, Hits, Integers, PieceBoxes, turned
from offramp.data.rooms.scene import CLASSES, Paint, Room, Scene

__all__ = ["Seen", "seen"]


@dataclass(frozen=True)
class Seen:
    """What P pixels see.

    Attributes:
        points: ``[3, P]``, in the room.
        normals: ``[3, P]``, unit, in the room; towards the camera.
        place: ``[2, P]``: metres across and up the face from its lower corner.
        surface: ``[P]``: index into `paints`.
        kind: ``[P]``: index into ``CLASSES``.
        paints: Of all surfaces.
    """

    points: Floats
    normals: Floats
    place: Floats
    surface: Integers
    kind: Integers
    paints: tuple[Paint, ...]


def seen(scene: Scene, boxes: list[PieceBoxes], hits: Hits, origin: Floats, directions: Floats) -> Seen:
    """Points, normals and paints where rays from `origin` ``[3, 1]`` meet the scene."""
    low, high, stand, cos, sin = (values.take(hits.box, -1) for values in _frames(scene.room, boxes))
    start, rays = turned(origin - stand, (cos, -sin)), turned(directions, (cos, -sin))
    to_low, to_high = (low - start) / rays, (high - start) / rays
    entered, left = np.minimum(to_low, to_high).argmax(0), np.maximum(to_low, to_high).argmin(0)
    axis = np.where(hits.box < 0, left, entered)  # the room is seen from inside
    pixel = np.arange(len(axis))
    forward = rays[axis, pixel] > 0
    normals = np.zeros_like(rays)
    normals[axis, pixel] = np.where(forward, np.float32(-1), np.float32(1))
    inside = start + hits.distance * rays - low
    place = np.stack([np.where(axis == 0, inside[2], inside[0]), np.where(axis == 1, inside[2], inside[1])])

    parts = [box for piece in scene.pieces for box in piece.boxes]
    faces = _faces(scene.room)
    surface = np.where(hits.box < 0, len(parts) + 2 * axis + forward, hits.box)
    kinds = [box.kind for box in parts] + [kind for kind, _ in faces]
    return Seen(
        points=origin + hits.distance * directions,
        normals=turned(normals, (cos, sin)),
        place=place,
        surface=surface,
        kind=np.array([CLASSES.index(kind) for kind in kinds])[surface],
        paints=(*(box.paint for box in parts), *(paint for _, paint in faces)),
    )


def _frames(room: Room, pieces: list[PieceBoxes]) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Corners and frame of every box, ``[3, B + 1]`` and ``[B + 1]``; the room is the last."""
    size = np.array([[room.width, room.height, room.depth]], np.float32)
    zero = np.zeros((1, 3), np.float32)
    low = np.concatenate([*(piece.low for piece in pieces), zero]).T
    high = np.concatenate([*(piece.high for piece in pieces), size]).T
    counts = [*(len(piece.low) for piece in pieces), 1]
    stand = np.repeat(np.stack([*(piece.origin for piece in pieces), zero[0]]), counts, axis=0).T
    cos = np.repeat(np.array([*(piece.turn[0] for piece in pieces), 1], np.float32), counts)
    sin = np.repeat(np.array([*(piece.turn[1] for piece in pieces), 0], np.float32), counts)
    return low, high, stand, cos, sin


def _faces(room: Room) -> list[tuple[str, Paint]]:
    """Class and paint of the room's faces: low and high end of x, y and z."""
    left, right, front, back = room.walls
    return [
        ("wall", left), ("wall", right), ("floor", room.floor), ("ceiling", room.ceiling),
        ("wall", front), ("wall", back),
    ]  # fmt: skip
