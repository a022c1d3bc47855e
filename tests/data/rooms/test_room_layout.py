"""Random rooms: each follows from its key, holds what rooms hold, and leaves the camera free."""

from __future__ import annotations

import itertools
from functools import cache

import pytest
import torch

from offramp.data.rooms import CLASSES, random_scene, render
from offramp.data.rooms._draws import Draws
from offramp.data.rooms.layout import AT_WALL, STANDING_ABOUT


@cache
def scenes(count=60):
    return [random_scene(0, 0, number) for number in range(count)]


def test_a_room_follows_from_its_key():
    assert random_scene(3, 1, 7) == random_scene(3, 1, 7)
    others = [random_scene(*key) for key in ((4, 1, 7), (3, 0, 7), (3, 1, 8), (31, 7, 0))]
    assert all(a != b for a, b in itertools.combinations([random_scene(3, 1, 7), *others], 2))


def test_a_room_stays_what_it_was():
    """Runs open their rooms again by number: another way of making them would be other data."""
    rendering = render(random_scene(0, 0, 34), 48, 64)
    counts = torch.bincount(rendering.segmentation.flatten(), minlength=13)
    expected = torch.tensor([537, 47, 182, 0, 262, 397, 105, 63, 0, 0, 71, 1221, 187])
    assert (
        counts - expected
    ).abs().max() <= 2  # a pixel on an edge may fall to either side on another machine
    assert rendering.depth.mean() == pytest.approx(3.00808, rel=1e-3)
    assert rendering.image.float().mean() == pytest.approx(129.517, rel=1e-3)


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


def test_furniture_stands_on_the_floor_that_it_takes():
    """All of it lies within its width and depth, but for two centimetres of a lamp's foot."""
    draw = Draws(0)
    for build in (*AT_WALL, *STANDING_ABOUT):
        for _ in range(20):
            item = build(draw)
            for corner in (corner for box in item.boxes for corner in (box.low, box.high)):
                assert abs(corner[0]) <= item.width / 2 + 0.02, build
                assert abs(corner[2]) <= item.depth / 2 + 0.02, build
            assert min(box.low[1] for box in item.boxes) < 0.07 and item.height < 2.2
