"""Light on surfaces: Lambert's law for lamps with shadows, and light from everywhere, less in corners."""

from __future__ import annotations

import numpy as np

from offramp.data.rooms._casting import Floats, PieceBoxes, blocked
from offramp.data.rooms._surfaces import Seen
from offramp.data.rooms._textures import PATTERNS
from offramp.data.rooms.scene import Light, Room, Scene

__all__ = ["levels"]

GRAIN = np.float32(0.05)  # width of the noise that is added to levels 0 ... 1
OFF_SURFACE = 2e-3  # metres from its surface at which a ray to a lamp starts
CORNER = 0.6  # metres from a wall within which less light comes from everywhere


def levels(scene: Scene, boxes: list[PieceBoxes], seen: Seen) -> Floats:
    """Red, green and blue of each pixel, 0 ... 1: ``[3, P]``."""
    random = np.random.default_rng(scene.seed)
    grain = GRAIN * (random.random(seen.points.shape, np.float32) - np.float32(0.5))
    albedo, glow = _albedo(seen)
    light = np.repeat(_ambient(scene, seen)[None], 3, axis=0)
    for lamp in scene.lights:
        light += _lamp(lamp, boxes, seen, random)
    shown: Floats = np.sqrt(albedo * (light + glow)) + grain  # a display's gamma, 2
    return shown


def _albedo(seen: Seen) -> tuple[Floats, Floats]:
    """Share of the light that each pixel's surface reflects, ``[3, P]``, and its own light, ``[P]``."""
    first = np.array([paint.colour for paint in seen.paints], np.float32).T
    second = np.array([paint.second or paint.colour for paint in seen.paints], np.float32).T
    period = np.array([paint.period for paint in seen.paints], np.float32)
    glow = np.array([paint.glow for paint in seen.paints], np.float32)
    names = list(PATTERNS)
    pattern = np.array([names.index(paint.pattern) for paint in seen.paints])[seen.surface]
    across, up = seen.place / period[seen.surface]
    share = np.zeros_like(across)
    for number in np.flatnonzero(np.bincount(pattern)):
        rows = np.flatnonzero(pattern == number)
        share[rows] = PATTERNS[names[number]](across[rows], up[rows])
    colour = first.take(seen.surface, 1) * (1 - share) + second.take(seen.surface, 1) * share
    return colour * colour, glow[seen.surface]


def _ambient(scene: Scene, seen: Seen) -> Floats:
    """Light from everywhere: more from above, less beside a wall, the floor or the ceiling."""
    strength: Floats = np.float32(scene.ambient) * (np.float32(0.85) + np.float32(0.15) * seen.normals[1])
    for axis, size in enumerate(_size(scene.room)):
        beside = 1 - np.abs(seen.normals[axis])
        for gap in (seen.points[axis], size - seen.points[axis]):
            near = np.maximum(1 - gap / np.float32(CORNER), 0)
            strength *= 1 - np.float32(0.4) * beside * near * near
    return strength


def _size(room: Room) -> Floats:
    return np.array([room.width, room.height, room.depth], np.float32)


def _lamp(lamp: Light, boxes: list[PieceBoxes], seen: Seen, random: np.random.Generator) -> Floats:
    """Light of a lamp, each pixel from a point of it drawn at random: ``[3, P]``."""
    place = np.array(lamp.position, np.float32)[:, None]
    if lamp.radius:
        within = random.random(seen.points.shape, np.float32) * 2 - 1
        place = place + np.float32(lamp.radius) * within
    start = seen.points + np.float32(OFF_SURFACE) * seen.normals
    way = place - start
    squared = (way * way).sum(0)
    facing = np.maximum((way * seen.normals).sum(0), 0) / np.sqrt(squared)
    if lamp.radius:
        lit = np.flatnonzero(facing)
        facing[lit[blocked(start[:, lit], way[:, lit], boxes)]] = 0
    light: Floats = np.array(lamp.strength, np.float32)[:, None] * (facing * 2 / (1 + squared))
    return light
