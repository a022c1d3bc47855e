"""Random rooms: each follows from its key, holds what rooms hold, and leaves the camera free."""

from __future__ import annotations

import itertools
from functools import cache

import torch

from offramp.data.rooms import CLASSES, random_scene, render


@cache
def scenes(count=60):
    return [random_scene(0, 0, number) for number in range(count)]


def test_a_room_follows_from_its_key():
    assert random_scene(3, 1, 7) == random_scene(3, 1, 7)
    others = [random_scene(*key) for key in ((4, 1, 7), (3, 0, 7), (3, 1, 8), (31, 7, 0))]
    assert all(a != b for a, b in itertools.combinations([random_scene(3, 1, 7), *others], 2))


def test_every_class_occurs_and_none_fills_the_picture():
    maps = torch.stack([render(scene, 24, 32).segmentation for scene in scenes()])
    in_image = torch.stack([(maps == k).flatten(1).any(1) for k in range(len(CLASSES))])
    assert in_image.float().mean(1).min() > 0.25  # each class is in every fourth picture or more
    assert torch.bincount(maps.flatten(), minlength=13).max() < maps.numel() / 2


def test_the_camera_is_in_the_room_and_in_no_box():
    for scene in scenes():
        x, y, z = scene.camera.position
        room = scene.room
        assert 0 < x < room.width and 0 < y < room.height and 0 < z < room.depth
        depth = render(scene, 12, 16).depth
        assert depth.min() > 0.2 and depth.isfinite().all()


def test_boxes_have_extent_and_a_class():
    for box in (box for scene in scenes() for piece in scene.pieces for box in piece.boxes):
        assert box.kind in CLASSES
        assert all(low < high for low, high in zip(box.low, box.high, strict=True)), box
