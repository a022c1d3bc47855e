"""Python data sets that give a target for every pixel, of which samples may have some."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_sets import noise

from offramp import UserError
from offramp.data import Target, open_data

N, H, W = 6, 8, 8
IMAGES = noise(N)
DRAWS = np.random.default_rng(0)
CLASSES = DRAWS.integers(-1, 4, (N, H, W))
DEPTH = DRAWS.uniform(1, 5, (N, H, W)).astype(np.float32)
NORMALS = DRAWS.normal(size=(N, H, W, 3))
NORMALS /= np.linalg.norm(NORMALS, axis=-1, keepdims=True)


def samples(**changes):
    """(image, {name: map}); Tensors and arrays, channels first or last, and None where there is none."""
    rows = []
    for row in range(N):
        maps = {
            "segmentation": torch.from_numpy(CLASSES[row]),
            "depth": None if row == 2 else torch.from_numpy(DEPTH[row])[None],
            "normals": NORMALS[row] if row % 2 else torch.from_numpy(NORMALS[row]).permute(2, 0, 1),
        }
        rows.append((IMAGES[row], maps))
    for key, value in changes.items():
        rows[1][1][key] = value
    return rows


def test_maps_are_read_whatever_their_form():
    data = open_data(samples(), val_fraction=0)
    names = tuple("0123")
    assert data.targets == {
        "segmentation": Target("segmentation", names),
        "depth": Target("depth"),
        "normals": Target("normals"),
    }
    targets = data.train.targets
    assert torch.equal(targets["segmentation"], torch.from_numpy(CLASSES))
    depth = torch.from_numpy(DEPTH)[:, None].clone()
    depth[2] = 0
    assert torch.equal(targets["depth"], depth)
    assert torch.equal(targets["normals"], torch.from_numpy(NORMALS).permute(0, 3, 1, 2).float())
    assert any(note.startswith("no 'depth': 1 of 6 training") for note in data.notes)


def test_names_say_the_kind_or_it_is_asked_for():
    rows = [(x, {"a": maps["segmentation"], "depth": maps["depth"]}) for x, maps in samples()]
    with pytest.raises(
        UserError, match=r"arrays of 2 axes; say what they are, by `tasks={a: a:segmentation}` or"
    ):
        open_data(rows)
    data = open_data(rows, tasks="where:a:segmentation,far:depth", classes=9)
    assert data.targets["where"].size == 9 and data.targets["far"].kind == "depth"


BAD = {
    "another size": ({"depth": np.ones((4, 8))}, {}, "'depth' is 8x4 pixels where others are 8x8"),
    "normals not unit": ({"normals": 3 * NORMALS[1]}, {}, "normals of length 3; divide each by its length"),
    "behind the eye": ({"depth": -DEPTH[1]}, {}, "write 0 where there is none"),
    "halves of classes": ({"segmentation": CLASSES[1] + 0.5}, {}, "classes that are no whole numbers"),
    "too few classes": ({}, {"classes": 2}, "class 3, and there are 0 ... 1; give -1 where"),
    "no map": ({"depth": 3.0}, {}, "is no map"),
    "cut images": ({}, {"size": 4}, "size=4 cuts images as they are read, and cannot cut their segmentation"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_maps_are_one_line(case):
    changes, settings, line = BAD[case]
    with pytest.raises(UserError) as caught:
        open_data(samples(**changes), **settings)
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_maps_that_nobody_has_and_maps_of_other_images():
    absent = [(x, {"depth": np.zeros((H, W))}) for x in IMAGES]
    with pytest.raises(UserError, match="'depth' and on: no training sample has a value"):
        open_data(absent)
    small = [(x, {"depth": np.ones((4, 4))}) for x in IMAGES]
    with pytest.raises(UserError, match="'depth' is 4x4 pixels, and its image 8x8"):
        open_data(small)
