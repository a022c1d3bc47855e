"""Rendered maps against ray-plane arithmetic in double precision, pixel by pixel and face by face."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from offramp.data.rooms import (
    CLASSES,
    Box,
    Camera,
    Light,
    Paint,
    Piece,
    Room,
    Scene,
    random_scene,
    render,
)

GRAY = Paint((0.5, 0.5, 0.5))
ROOM = Room(4.0, 2.5, 5.0, GRAY, GRAY, (GRAY, GRAY, GRAY, GRAY))
AHEAD = Camera((2.0, 1.2, 0.5))
SIZE = 24, 32


def turned(vector, turn):
    """The vector turned to the right about the vertical, as the docstring of `Piece` says it."""
    (u, v, w), (cos, sin) = vector, turn
    return np.array([u * cos + w * sin, v, -u * sin + w * cos])


def rectangles(scene):
    """Every face of the scene: class, a corner, its two edges, and the normal on the side that is seen."""
    room = scene.room
    size = (room.width, room.height, room.depth)
    solids = [((0, 0, 0), size, None, (1, 0), np.zeros(3), -1)]
    for piece in scene.pieces:
        at = np.array([piece.x, 0, piece.z])
        solids += [(box.low, box.high, box.kind, piece.turn, at, 1) for box in piece.boxes]
    for low, high, kind, turn, at, outwards in solids:
        edges = np.diag(np.subtract(high, low))
        for axis, end in itertools.product(range(3), (0, 1)):
            corner = np.array(low, float) + end * edges[axis]
            sides = [turned(edges[a], turn) for a in range(3) if a != axis]
            normal = turned(np.eye(3)[axis] * (1 if end else -1) * outwards, turn)
            face = kind or ("wall", ("floor", "ceiling")[end], "wall")[axis]
            yield face, at + turned(corner, turn), sides, normal


def look(scene, height, width):
    """Class, depth and normal of each pixel: for its ray, the nearest of all planes met inside a face."""
    camera, faces = scene.camera, list(rectangles(scene))
    (cos, sin), (level, rise) = camera.yaw, camera.pitch

    def in_room(right, up, ahead):  # the camera's frame, pitched, then turned
        return turned((right, up * level + ahead * rise, ahead * level - up * rise), (cos, sin))

    axes = [in_room(1, 0, 0), in_room(0, 1, 0), -in_room(0, 0, 1)]
    kinds, depths = np.zeros((height, width), int), np.zeros((height, width))
    normals = np.zeros((3, height, width))
    for row, column in itertools.product(range(height), range(width)):
        x = (column + 0.5 - width / 2) / (camera.focal * width)
        y = (height / 2 - row - 0.5) / (camera.focal * width)
        ray, nearest = in_room(x, y, 1), math.inf
        for kind, corner, (a, b), normal in faces:
            against = normal @ ray
            if against >= 0:  # its other side
                continue
            distance = normal @ (corner - camera.position) / against
            inside = np.array(camera.position) + distance * ray - corner
            on_face = 0 <= inside @ a <= a @ a and 0 <= inside @ b <= b @ b
            if on_face and 0 < distance < nearest:
                nearest = distance
                kinds[row, column] = CLASSES.index(kind)
                normals[:, row, column] = [axis @ normal for axis in axes]
        depths[row, column] = nearest
    return kinds, depths, normals


def angle(degrees):
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))


def box(low, high, kind="objects"):
    return Box(low, high, kind, GRAY)


TABLE = Piece(
    (
        box((-0.6, 0.7, -0.4), (0.6, 0.74, 0.4), "table"),
        *(box((x, 0, z), (x + 0.05, 0.7, z + 0.05), "table") for x in (-0.55, 0.5) for z in (-0.35, 0.3)),
        box((-0.1, 0.74, -0.1), (0.1, 1.0, 0.1), "books"),
    ),
    2.1,
    2.6,
    angle(25),
)
SCENES = {
    "empty": Scene(ROOM, AHEAD),
    "a box": Scene(ROOM, AHEAD, (Piece((box((1.5, 0.0, 2.0), (2.6, 0.9, 3.0), "bed"),)),)),
    "turned": Scene(ROOM, Camera((1.1, 1.4, 0.4), angle(20), angle(-12)), (TABLE,)),
    "crowd": Scene(
        ROOM,
        Camera((3.0, 1.6, 0.6), angle(-30), angle(6)),
        (TABLE, Piece((box((-0.5, 0, -0.2), (0.5, 2, 0.2), "furniture"),), 0.21, 3.0, angle(-90))),
    ),
    "random": random_scene(0, 0, 5),
}


@pytest.mark.parametrize("name", SCENES)
def test_maps_are_those_of_ray_plane_arithmetic(name):
    """A ray that grazes an edge within float32 may fall to either side: at most one pixel in 300."""
    rendering = render(SCENES[name], *SIZE)
    kinds, depths, normals = look(SCENES[name], *SIZE)
    depth = rendering.depth[0].numpy()
    same = np.abs(depth - depths) < 1e-4 * depths
    same &= np.abs(rendering.normals.numpy() - normals).max(0) < 1e-5
    same &= rendering.segmentation.numpy() == kinds
    assert (~same).sum() <= same.size // 300


def test_an_empty_room_seen_straight_on():
    """The wall ahead lies at its distance from the camera's plane, wherever in the image it is seen."""
    rendering = render(SCENES["empty"], 9, 31)
    assert rendering.depth[0, 4, 15] == pytest.approx(4.5, rel=1e-6)
    wall = (rendering.segmentation == CLASSES.index("wall")) & (rendering.normals[2] == 1)
    assert torch.allclose(rendering.depth[0][wall], torch.tensor(4.5), rtol=1e-6)
    left = rendering.normals[:, 4, 0]
    assert left.tolist() == [1, 0, 0]  # the left wall faces right
    assert rendering.depth[0, 4, 0] == pytest.approx(2.0 / (15 / (0.75 * 31)), rel=1e-5)


def test_kinds_and_shapes_of_the_maps():
    image, segmentation, depth, normals = render(SCENES["turned"], 10, 14)
    assert (image.dtype, image.shape) == (torch.uint8, (3, 10, 14))
    assert (segmentation.dtype, segmentation.shape) == (torch.int64, (10, 14))
    assert (depth.dtype, depth.shape) == (torch.float32, (1, 10, 14))
    assert (normals.dtype, normals.shape) == (torch.float32, (3, 10, 14))


def test_a_lamp_lights_what_it_reaches():
    """Beneath a plate the floor is as dark as without a lamp; beside it, it follows Lambert's law."""
    plate = Piece((box((1.5, 1.0, 2.5), (2.5, 1.02, 3.5)),))
    floor = Paint((1.0, 1.0, 1.0))
    room = ROOM._replace(floor=floor)
    camera = Camera((2.0, 0.6, 0.3), pitch=angle(-10))
    lamp = Light((2.0, 2.0, 3.0), (0.1, 0.1, 0.1), radius=1e-4)
    dark = render(Scene(room, camera, (plate,), (), 0.1), 96, 128)
    lit = render(Scene(room, camera, (plate,), (lamp,), 0.1), 96, 128)
    gain = (lit.image.float() / 255) ** 2 - (dark.image.float() / 255) ** 2  # levels have a gamma of 2
    across, ahead, on_floor = floor_points(dark, camera)
    beneath = on_floor & ((across - 2).abs() < 0.8) & ((ahead - 3).abs() < 0.8)
    assert beneath.sum() > 100 and gain[:, beneath].abs().max() == 0  # the same grain in both
    beside = on_floor & ((across - 2).abs() > 1.1)
    squared = (across - 2) ** 2 + 4 + (ahead - 3) ** 2
    expected = 0.1 * 2 / (1 + squared) * 2 / squared.sqrt()
    error = (gain.mean(0) - expected)[beside]
    assert beside.sum() > 100 and error.mean().abs() < 0.002 and error.abs().max() < 0.01


def floor_points(rendering, camera):
    """Where in the room each pixel of the floor lies, from its depth."""
    _, height, width = rendering.depth.shape
    x = (torch.arange(width) + 0.5 - width / 2) / (camera.focal * width)
    y = (height / 2 - torch.arange(height) - 0.5) / (camera.focal * width)
    level, rise = camera.pitch
    depth = rendering.depth[0]
    ahead = camera.position[2] + depth * (level - y[:, None] * rise)
    across = camera.position[0] + depth * x
    return across, ahead, rendering.segmentation == CLASSES.index("floor")
