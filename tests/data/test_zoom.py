"""The augmentation of NYUv2 against a loop over images that crops and resizes each by `interpolate`."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from offramp import UserError
from offramp.data import Batch, open_data, pipeline
from offramp.data._augment import ZOOMS, flip, zoom
from offramp.data._dense_rows import MAPS
from offramp.data.targets import Target


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def dense_batch(count, height, width):
    """Random images and maps, with pixels that have no class, depth or normal."""
    draws = generator(1)
    images = torch.rand(count, 3, height, width, generator=draws)
    labels = torch.randint(-1, 13, (count, height, width), generator=draws)
    depth = torch.rand(count, 1, height, width, generator=draws) * (labels >= 0)[:, None]
    normals = F.normalize(torch.randn(count, 3, height, width, generator=draws), dim=1) * (depth > 0.1)
    return Batch(images, {"segmentation": labels, "depth": depth, "normals": normals})


def drawn(count, height, width, seed):
    """What `zoom` draws: scale, and corner and size of the part, of each image."""
    draws = generator(seed)
    chosen = torch.randint(len(ZOOMS), (count,), generator=draws)
    corners = torch.rand(2, count, generator=draws)
    for image in range(count):
        scale = ZOOMS[int(chosen[image])]
        h, w = max(1, int(height / scale)), max(1, int(width / scale))
        top, left = (
            int(corners[k, image] * (total - part + 1)) for k, total, part in ((0, height, h), (1, width, w))
        )
        yield scale, slice(top, top + h), slice(left, left + w)


@pytest.mark.parametrize(("height", "width"), [(288, 384), (24, 32), (31, 45), (7, 1)])
def test_zoom_is_a_crop_resized(height, width):
    """Bilinear weights come from float32 places: an image of 384 columns has them to 384 / 2^24 / 2 or so."""
    count = 6 if height > 100 else 40
    batch = dense_batch(count, height, width)
    zoomed = zoom(batch, generator(5), MAPS)
    for image, (scale, rows, columns) in enumerate(drawn(count, height, width, 5)):

        def part(values, rows=rows, columns=columns, image=image):
            return values[image : image + 1, :, rows, columns].float()

        size = (height, width)
        bilinear = {"size": size, "mode": "bilinear", "align_corners": True}
        picture = F.interpolate(part(batch.inputs), **bilinear)[0]
        normals = F.interpolate(part(batch.targets["normals"]), **bilinear)[0]
        labels = F.interpolate(part(batch.targets["segmentation"][:, None]), size=size, mode="nearest")[0, 0]
        depth = F.interpolate(part(batch.targets["depth"]), size=size, mode="nearest")[0] / scale
        assert torch.allclose(zoomed.inputs[image], picture, atol=5e-5)
        assert torch.allclose(zoomed.targets["normals"][image], normals, atol=5e-5)
        assert torch.equal(zoomed.targets["segmentation"][image], labels.long())
        assert torch.allclose(zoomed.targets["depth"][image], depth, rtol=1e-6, atol=0)


def test_scales_and_places_are_drawn_evenly():
    scales, tops = [], {scale: set() for scale in ZOOMS}
    for scale, rows, _ in drawn(3000, 24, 32, 0):
        scales.append(scale)
        tops[scale].add(rows.start)
    assert all(900 < scales.count(scale) < 1100 for scale in ZOOMS)
    assert tops == {1.0: {0}, 1.2: set(range(5)), 1.5: set(range(9))}  # 24 rows: parts of 24, 20 and 16


def test_an_image_at_scale_1_stays_as_it_is():
    batch = dense_batch(60, 12, 16)
    zoomed = zoom(batch, generator(2), MAPS)
    for image, (scale, *_) in enumerate(drawn(60, 12, 16, 2)):
        same = torch.equal(zoomed.inputs[image], batch.inputs[image])
        assert same == (scale == 1.0)
        if same:
            assert all(torch.equal(zoomed.targets[key][image], batch.targets[key][image]) for key in MAPS)


def test_levels_stay_levels():
    batch = dense_batch(8, 12, 16)
    levels = (batch.inputs * 255).to(torch.uint8)
    zoomed = zoom(Batch(levels, {}), generator(), MAPS).inputs
    expected = zoom(Batch(levels.float(), {}), generator(), MAPS).inputs.round()
    assert zoomed.dtype == torch.uint8 and torch.equal(zoomed.float(), expected)


def test_a_box_is_cut_with_its_image():
    """A bright box is found again where its coordinates say, to a pixel on each side."""
    count, height, width = 50, 60, 90
    images = torch.zeros(count, 1, height, width)
    images[:, :, 20:40, 30:60] = 1
    boxes = torch.tensor([30 / width, 20 / height, 60 / width, 40 / height]).expand(count, 4)
    zoomed = zoom(Batch(images, {"box": boxes}), generator(3), {"box": Target("box")})
    for image, (x0, y0, x1, y1) in zip(zoomed.inputs[:, 0] > 0.5, zoomed.targets["box"], strict=True):
        rows, columns = image.any(1).nonzero()[:, 0], image.any(0).nonzero()[:, 0]
        assert abs(rows[0] - y0 * height) < 1.6 and abs(rows[-1] + 1 - y1 * height) < 1.6
        assert abs(columns[0] - x0 * width) < 1.6 and abs(columns[-1] + 1 - x1 * width) < 1.6


def test_flip_turns_the_normals():
    batch = dense_batch(30, 6, 8)
    flipped = flip(batch, generator(4), MAPS)
    turned = 0
    for image in range(30):
        picture, normals = flipped.inputs[image], flipped.targets["normals"][image]
        if torch.equal(picture, batch.inputs[image]):
            assert torch.equal(normals, batch.targets["normals"][image])
            continue
        turned += 1
        mirrored = batch.targets["normals"][image].flip(2) * torch.tensor([-1.0, 1, 1])[:, None, None]
        assert torch.equal(picture, batch.inputs[image].flip(2)) and torch.equal(normals, mirrored)
        assert torch.equal(flipped.targets["depth"][image], batch.targets["depth"][image].flip(2))
        assert torch.equal(
            flipped.targets["segmentation"][image], batch.targets["segmentation"][image].flip(1)
        )
    assert 5 < turned < 25


def test_the_pipeline_of_dense_sets():
    """By default it is `nyuv2`, which leaves colours alone, and evaluation images as they are."""
    data = open_data("rooms:images=8,test=2,height=16,width=24")
    training, clean = pipeline(None, data)
    assert (training, clean) == pipeline("nyuv2", data)
    assert training.steps == (zoom, flip) and not clean.steps
    batch = next(data.test.batches(2, transform=clean, device="cpu"))
    assert torch.allclose(batch.inputs, data.test.images.float() / 255, atol=1e-7)
    assert all(torch.equal(batch.targets[key], data.test.targets[key]) for key in MAPS)
    first, again = (next(data.train.batches(4, transform=training, device="cpu", epoch=e)) for e in (0, 0))
    assert torch.equal(first.inputs, again.inputs)
    other = next(data.train.batches(4, transform=training, device="cpu", epoch=1))
    assert not torch.equal(first.inputs, other.inputs)


@pytest.mark.parametrize("name", ["imagenet", "dfs-autoaugment"])
def test_pipelines_that_cannot_move_maps_are_refused(name):
    data = open_data("rooms:images=4,test=1,height=16,width=24")
    with pytest.raises(UserError, match=f"'{name}' moves images, and cannot move their segmentation"):
        pipeline(name, data)
