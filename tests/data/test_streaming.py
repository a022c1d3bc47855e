"""Sets that stream: exact in (seed, epoch, row), whatever decodes them."""

from __future__ import annotations

import collections
import os
import warnings
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image
from small_sets import noise, png, write_parquet

from offramp import UserError
from offramp.data import Batch, Split, StreamSplit, _image_reader, open_data, pipeline, stream
from offramp.data._geometry import centre_crop, random_resized_crop
from offramp.data._loading import num_workers

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

SIZES = (40, 60), (64, 33), (50, 50)


@pytest.fixture
def data(image_folder):
    return open_data(image_folder({"train": 9, "test": 2}, sizes=SIZES), size=32, val_fraction=0.2)


def run(split, transform, **arguments):
    return [
        (batch.inputs.clone(), batch.targets["label"].clone())
        for batch in split.batches(4, transform=transform, device="cpu", **arguments)
    ]


def same(one, two):
    return len(one) == len(two) and all(
        torch.equal(a, b) for x, y in zip(one, two, strict=True) for a, b in zip(x, y, strict=True)
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_resumes_exactly(data, workers):
    train, _ = pipeline("imagenet", data)
    data.train.workers = 0
    whole = run(data.train, train, shuffle=True, seed=1, epoch=3)
    data.train.workers = workers
    state = torch.get_rng_state()
    rest = run(data.train, train, shuffle=True, seed=1, epoch=3, start=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(whole) == data.train.num_batches(4) == 4
    assert same(rest, whole[2:])
    assert whole[0][0].shape == (4, 3, 32, 32)
    assert not torch.equal(whole[0][0], run(data.train, train, shuffle=True, seed=1, epoch=4)[0][0])
    assert run(data.train, train, start=9) == []


def test_evaluation_is_resize_and_centre_crop(data):
    _, evaluate = pipeline("imagenet", data)
    data.test.workers = 0
    ((images, labels),) = run(data.test, evaluate)
    assert labels.tolist() == [0, 0, 1, 1]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    first = Image.fromarray(noise(1, size=(40, 60), seed=0)[0])  # PIL's size is 60 x 40
    expected = first.resize((55, 37), Image.Resampling.BILINEAR)  # 32 * 256 / 224 = 36.6
    expected = expected.crop((12, 2, 44, 34))
    levels = torch.from_numpy(np.array(expected)).permute(2, 0, 1) / 255
    torch.testing.assert_close(images[0], (levels - mean) / std, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(500, 375), (224, 224), (1000, 230), (229, 800)], ids=str)
def test_centre_crop_takes_the_middle(size):
    """A ramp from the centre keeps its zero in the middle of the square."""
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    square = np.asarray(centre_crop(Image.fromarray(np.stack((x, y, y), 2).astype(np.uint8)), 224), float)
    assert square.shape == (224, 224, 3)
    assert square.mean((0, 1)) == pytest.approx(127.5, abs=1.5)
    shorter = np.asarray(square[:, :, 0 if size[0] < size[1] else 1])
    assert shorter.max() - shorter.min() == pytest.approx(255 * 224 / 256, abs=3)


def test_resized_crops_cover_the_published_range():
    """Seen through ramps: share of the area 8 % to 100 %, shape 3:4 to 4:3, all over the picture."""
    x, y = np.meshgrid(np.arange(250), np.arange(250))
    picture = Image.fromarray(np.stack((x, y, y), 2).astype(np.uint8))
    draws = Random(0)
    areas, shapes, centres = [], [], []
    for _ in range(400):
        square = np.asarray(random_resized_crop(picture, 64, draws), float)
        w = (square[32, -1, 0] - square[32, 0, 0]) * 64 / 63
        h = (square[-1, 32, 1] - square[0, 32, 1]) * 64 / 63
        areas.append(w * h / 250**2)
        shapes.append(w / h)
        centres.append(square[32, 32, :2])
    assert 0.06 < min(areas) < 0.12 and max(areas) > 0.85
    assert min(shapes) == pytest.approx(0.75, abs=0.06) and max(shapes) == pytest.approx(4 / 3, abs=0.09)
    assert np.mean(centres, axis=0) == pytest.approx(125, abs=8)


@pytest.mark.parametrize("size", [(4, 900), (900, 4)], ids=str)
def test_resized_crop_of_a_stripe(size):
    assert random_resized_crop(Image.new("RGB", size, (9, 9, 9)), 16, Random(0)).getpixel((8, 8)) == (9, 9, 9)


def test_each_image_gets_crops_of_its_own(tmp_path):
    """Equal images leave the workers different, and the same ones in any order."""
    content = png(noise(1, size=(40, 40))[0])
    write_parquet(tmp_path / "train.parquet", [content] * 8, [0] * 8)
    write_parquet(tmp_path / "test.parquet", [content], [0])
    split = open_data(tmp_path, size=16, val_fraction=0).train
    split.workers = 0

    def keep(batch, _):
        return Batch(batch.inputs.float(), batch.targets)

    keep.resized_crop = True
    in_order = torch.cat([x for x, _ in run(split, keep)])
    shuffled = torch.cat([x for x, _ in run(split, keep, shuffle=True)])
    count = collections.Counter(x.numpy().tobytes() for x in in_order)
    assert max(count.values()) == 1
    assert count == collections.Counter(x.numpy().tobytes() for x in shuffled)


def test_a_large_set_of_one_size_streams_as_it_is(parquet_folder, monkeypatch):
    small = open_data(parquet_folder, val_fraction=0.2)
    monkeypatch.setattr(_image_reader, "MAX_BYTES", 1000)
    large = open_data(parquet_folder, val_fraction=0.2)
    assert isinstance(small.train, Split) and isinstance(large.train, StreamSplit)
    train, _ = pipeline("dfs", small)
    large.train.workers = 0
    assert same(run(large.train, train, shuffle=True), run(small.train, train, shuffle=True))
    assert pipeline("crop-flip", large)[1] == pipeline("crop-flip", small)[1]  # of at most SAMPLE images


def test_a_damaged_image_is_one_line_also_from_a_worker(data, image_folder, tmp_path):
    broken = tmp_path / "train" / "dog" / "3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    train, _ = pipeline("imagenet", data)
    data.train.workers = 1
    whole = open_data(tmp_path, size=32, val_fraction=0).train
    whole.workers = 1
    with pytest.raises(UserError) as caught:
        run(whole, train)
    assert str(broken) in str(caught.value) and "\n" not in str(caught.value)


def test_what_a_worker_is_warned_of_is_warned_of_here(data, monkeypatch):
    class Oddity(UserWarning):
        """Known to the worker alone."""

    def pixels(picture):
        warnings.warn("an odd image", Oddity, stacklevel=1)
        return plain(picture)

    plain = stream.pixels
    monkeypatch.setattr(stream, "pixels", pixels)
    data.train.workers = 2
    train, _ = pipeline("imagenet", data)
    with pytest.warns(UserWarning, match="an odd image") as caught:
        assert len(run(data.train, train)) == 4
    assert not any(warning.category is Oddity for warning in caught)


def test_as_many_processes_read_as_there_are_cores_for_this_one(monkeypatch):
    """A batch system grants a few cores of many, and torch warns of more processes than that."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 5, 6}, raising=False)
    assert [num_workers(world) for world in (1, 2, 4)] == [3, 1, 0]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(128)), raising=False)
    assert num_workers() == 8
