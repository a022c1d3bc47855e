"""Pictures of a scene, with class, depth and surface normal of every pixel, all exact from the geometry."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from offramp.data.rooms._casting import Floats, PieceBoxes, first_hits
from offramp.data.rooms._shading import levels
from offramp.data.rooms._surfaces import seen
from offramp.data.rooms.scene import Camera, Scene

__all__ = ["Rendering", "render"]


class Rendering(NamedTuple):
    """A picture and what is known of each of its pixels.

    Attributes:
        image: uint8 ``[3, H, W]``.
        segmentation: int64 ``[H, W]``: index into ``CLASSES``.
        depth: float32 ``[1, H, W]``: metres from the camera's plane (not along the ray).
        normals: float32 ``[3, H, W]``: unit, in the frame of the camera: x right, y up, z towards the viewer.
    """

    image: Tensor
    segmentation: Tensor
    depth: Tensor
    normals: Tensor


def render(scene: Scene, height: int, width: int) -> Rendering:
    """Render a scene: one ray through the middle of each pixel.

    Args:
        scene: The camera must be in the room, and in no box.
        height: Of the picture, in pixels.
        width: Likewise.
    """
    across, up, ahead = _axes(scene.camera)
    directions = _rays(scene.camera, height, width)
    origin = np.array(scene.camera.position, np.float32)[:, None]
    boxes = [PieceBoxes.of(piece) for piece in scene.pieces]
    with np.errstate(divide="ignore", invalid="ignore"):  # a ray along an axis, which misses what it grazes
        hits = first_hits(origin, directions, scene.room, boxes)
        surface = seen(scene, boxes, hits, origin, directions)
        colours = levels(scene, boxes, surface)
    shown = (colours * 255 + np.float32(0.5)).clip(0, 255).astype(np.uint8)
    normals = np.stack([_dot(axis, surface.normals) for axis in (across, up, -ahead)])
    return Rendering(
        image=torch.from_numpy(shown).view(3, height, width),
        segmentation=torch.from_numpy(surface.kind).view(height, width),
        depth=torch.from_numpy(hits.distance).view(1, height, width),
        normals=torch.from_numpy(normals).view(3, height, width),
    )


def _axes(camera: Camera) -> tuple[Floats, Floats, Floats]:
    """The camera's unit vectors in the room: to its right, up, and the way it looks."""
    (cos, sin), (level, rise) = camera.yaw, camera.pitch
    across = (cos, 0, -sin)
    up = (-sin * rise, level, -cos * rise)
    ahead = (sin * level, rise, cos * level)
    return np.array(across, np.float32), np.array(up, np.float32), np.array(ahead, np.float32)


def _rays(camera: Camera, height: int, width: int) -> Floats:
    """Direction of each pixel's ray, whose component along the view is 1: ``[3, P]``."""
    across, up, ahead = _axes(camera)
    focal = np.float32(camera.focal * width)
    x = (np.arange(width, dtype=np.float32) + np.float32(0.5 - width / 2)) / focal
    y = (np.float32(height / 2 - 0.5) - np.arange(height, dtype=np.float32)) / focal
    rays = across[:, None, None] * x + up[:, None, None] * y[:, None] + ahead[:, None, None]
    flat: Floats = rays.reshape(3, -1)
    flat[np.abs(flat) < 1e-9] = 1e-9  # along a plane, whose distance is divided by it
    return flat


def _dot(axis: Floats, vectors: Floats) -> Floats:
    product: Floats = axis[0] * vectors[0] + axis[1] * vectors[1] + axis[2] * vectors[2]
    return product
