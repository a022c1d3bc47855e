"""Several targets for a sample: they move with its image, and a batch lacks what no sample of it has."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from offramp import UserError
from offramp.data import ImageData, Split, Target, TargetTensors, open_data, pipeline
from offramp.data._augment import crop, flip
from offramp.data.batch import Batch

KINDS = {
    "class": Target("class", ("a", "b")),
    "tags": Target("labels", ("x", "y")),
    "pose": Target("values", size=2),
    "box": Target("box"),
    "map": Target("segmentation", tuple(map(str, range(200)))),
    "depth": Target("depth"),
    "normals": Target("normals"),
}
N, H, W = 60, 9, 12


@pytest.fixture
def batch():
    """Images with a bright rectangle, whose edges are the box; their levels are the dense targets."""
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(1, 100, (N, 3, H, W), generator=draws, dtype=torch.uint8)
    y0, x0 = (torch.randint(size - 2, (N,), generator=draws) for size in (H, W))
    y1 = y0 + 1 + (torch.rand(N, generator=draws) * (H - y0)).long()
    x1 = x0 + 1 + (torch.rand(N, generator=draws) * (W - x0)).long()
    for image, *edges in zip(images, y0, y1, x0, x1, strict=True):
        image[:, edges[0] : edges[1], edges[2] : edges[3]] += 100
    targets = {
        "class": torch.arange(N) % 2,
        "tags": torch.rand(N, 2, generator=draws).round(),
        "pose": torch.randn(N, 2, generator=draws),
        "box": torch.stack([x0 / W, y0 / H, x1 / W, y1 / H], 1),
        "map": images[:, 0].long(),
        "depth": images[:, :1].float(),
        "normals": torch.stack([images[:, 0].float(), 2.0 * images[:, 1], 3.0 * images[:, 2]], 1),
    }
    return Batch(images, targets)


def test_targets_go_where_the_content_of_their_images_goes(batch):
    generator = torch.Generator().manual_seed(1)
    moved = flip(crop(batch, generator, KINDS, padding=4), generator, KINDS)
    levels = moved.inputs.float()
    for key in ("class", "tags", "pose"):
        assert torch.equal(moved.targets[key], batch.targets[key])
    padding = moved.inputs[:, 0] == 0
    assert torch.equal(moved.targets["map"], torch.where(padding, -1, moved.inputs[:, 0].long()))
    assert torch.equal(moved.targets["depth"], levels[:, :1])
    mirrored = moved.targets["normals"][:, 0].flatten(1).sum(1) < 0
    assert 15 < mirrored.sum() < 45
    sign = torch.where(mirrored, -1.0, 1.0)[:, None, None]
    expected = torch.stack([sign * levels[:, 0], 2 * levels[:, 1], 3 * levels[:, 2]], 1)
    assert torch.equal(moved.targets["normals"], expected)
    lost = 0
    for image, box in zip(moved.inputs, moved.targets["box"], strict=True):
        bright = image[0] > 100
        if not bright.any():
            assert box.isnan().all()
            lost += 1
            continue
        rows, columns = bright.any(1).nonzero()[:, 0], bright.any(0).nonzero()[:, 0]
        edges = [columns[0] / W, rows[0] / H, (columns[-1] + 1) / W, (rows[-1] + 1) / H]
        torch.testing.assert_close(box, torch.stack(edges), atol=1e-6, rtol=0)
    assert 0 < lost < N / 2


def test_a_flip_of_a_mirrored_image_is_what_it_was(batch):
    every = torch.ones(N, dtype=torch.bool)
    for key, kind in KINDS.items():
        twice = kind.flipped(kind.flipped(batch.targets[key], every), every)
        torch.testing.assert_close(twice, batch.targets[key])


def test_images_and_targets_given_stay_as_they_are(batch):
    before = batch.map(torch.clone)
    generator = torch.Generator().manual_seed(1)
    flip(crop(batch, generator, KINDS), generator, KINDS)
    assert torch.equal(batch.inputs, before.inputs)
    assert all(torch.equal(batch.targets[key], before.targets[key]) for key in KINDS)


ABSENT = {
    "class": torch.full((2,), -100),
    "tags": torch.full((2, 2), torch.nan),
    "pose": torch.full((2, 2), torch.nan),
    "box": torch.full((2, 4), torch.nan),
    "map": torch.full((2, H, W), -1),
    "depth": torch.zeros(2, 1, H, W),
    "normals": torch.zeros(2, 3, H, W),
}


@pytest.mark.parametrize("key", KINDS)
def test_a_batch_lacks_a_target_that_none_of_its_samples_has(batch, key):
    target = batch.targets[key].clone()
    target[2:4] = ABSENT[key]
    target[5:6] = ABSENT[key][:1]
    assert KINDS[key].present(target).tolist() == [i not in (2, 3, 5) for i in range(N)]
    split = Split(batch.inputs, TargetTensors({**batch.targets, key: target}, KINDS))
    _, clean = pipeline("none", data_of(split))
    found = list(split.batches(2, transform=clean, device="cpu"))
    assert [key in part.targets for part in found] == [i != 1 for i in range(N // 2)]
    assert all({*KINDS} - {key} <= {*part.targets} for part in found)
    torch.testing.assert_close(found[2].targets[key], target[4:6], equal_nan=True)


def data_of(split: Split) -> ImageData:
    return ImageData(
        name="shapes",
        source="-",
        targets=split.targets.kinds,
        train=split,
        val=split,
        load_test=lambda: split,
    )


def test_a_pipeline_that_cannot_move_a_target_says_so(batch):
    data = data_of(Split(batch.inputs, TargetTensors(batch.targets, KINDS)))
    with pytest.raises(UserError, match=r"'dfs-autoaugment' .* move their box, map, depth, normals along"):
        pipeline("dfs-autoaugment", data)
    with pytest.raises(UserError, match=r"mixup and cutmix mix the classes of images, and 'pose' of shapes"):
        pipeline("none", data, mixup=0.2)
    train, _ = pipeline("dfs", data)
    (first, *_) = data.train.batches(N, transform=train, device="cpu")
    assert {*first.targets} == {*KINDS}


def test_a_set_without_label_says_what_it_has(batch):
    data = data_of(Split(batch.inputs, TargetTensors(batch.targets, KINDS)))
    line = "shapes has no target 'label'; its targets are class, tags, pose, box, map, depth, normals"
    for attribute in ("classes", "num_classes"):
        with pytest.raises(UserError, match=line):
            getattr(data, attribute)
    with pytest.raises(UserError, match="the samples have no 'label'"):
        data.train.labels  # noqa: B018


def test_kinds():
    assert [kind.size for kind in KINDS.values()] == [2, 2, 2, 4, 200, 1, 3]
    assert [key for key, kind in KINDS.items() if kind.dense] == ["map", "depth", "normals"]
    with pytest.raises(UserError, match=r"no kind of target 'bos' \(did you mean 'box'\?\)"):
        Target("bos")


@pytest.mark.parametrize("resized_crop", [False, True])
def test_boxes_of_images_that_are_cut_as_they_are_read(resized_crop):
    """The edges of a bright rectangle, found in the cut image, are the box within a pixel and a half."""
    draws = torch.Generator().manual_seed(3)
    images, boxes = [], []
    for _ in range(40):
        height, width = torch.randint(40, 90, (2,), generator=draws).tolist()
        y0, x0 = (int(torch.randint(size - 20, (), generator=draws)) for size in (height, width))
        image = torch.zeros(3, height, width, dtype=torch.uint8)
        image[:, y0 : y0 + 16, x0 : x0 + 18] = 255
        images.append(image)
        boxes.append([x0 / width, y0 / height, (x0 + 18) / width, (y0 + 16) / height])
    data = open_data([(x, {"box": b}) for x, b in zip(images, boxes, strict=True)], size=64, val_fraction=0)
    data.train.workers = 0

    def keep(batch, _):
        return replace(batch, inputs=batch.inputs.float())

    keep.resized_crop = resized_crop
    (batch,) = data.train.batches(40, transform=keep, device="cpu")
    found = 0
    for image, box in zip(batch.inputs, batch.targets["box"], strict=True):
        bright = image[0] > 127
        if box.isnan().any():
            assert not bright.any()
            continue
        rows, columns = bright.any(1).nonzero()[:, 0], bright.any(0).nonzero()[:, 0]
        if len(rows) and len(columns):
            edges = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / 64
            assert (edges - box).abs().max() <= 1.5 / 64
            found += 1
    assert found > 25


def test_an_image_cut_beside_its_box_lacks_it():
    images = torch.zeros(4, 3, 40, 120, dtype=torch.uint8)
    boxes = torch.tensor([[0.0, 0.0, 0.1, 1.0]] * 3 + [[0.4, 0.0, 0.6, 1.0]])
    data = open_data([(x, {"box": b}) for x, b in zip(images, boxes, strict=True)], size=32, val_fraction=0)
    data.train.workers = 0
    _, clean = pipeline("none", data)
    present = [batch.targets.keys() for batch in data.train.batches(2, transform=clean, device="cpu")]
    assert [[*keys] for keys in present] == [[], ["box"]]
