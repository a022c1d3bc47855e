from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from small_sets import noise, png, write_parquet

from offramp.data import Split, _samples, open_data


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    data = open_data("digits")
    assert (data.name, data.num_classes, data.input_size) == ("digits", 10, (3, 32, 32))
    assert (len(data.train), len(data.val), len(data.test)) == (1293, 144, 360)
    levels, labels = load_digits(return_X_y=True)
    assert data.test.labels.tolist() == labels[-360:].tolist()
    assert sorted(data.train.labels.tolist() + data.val.labels.tolist()) == sorted(labels[:-360].tolist())
    small = data.test.images[:, :, ::4, ::4].double() * 16 / 255
    expected = torch.from_numpy(levels[-360:]).view(-1, 1, 8, 8).expand_as(small)
    torch.testing.assert_close(small, expected, atol=0.04, rtol=0)
    assert data.train.images.dtype == torch.uint8 and data.train.images.max() == 255


def test_parquet_gives_the_pixels_and_labels_that_were_written(parquet_folder):
    data = open_data(parquet_folder, val_fraction=0)
    assert data.name == parquet_folder.name and data.source == str(parquet_folder)
    assert data.classes == ("cat", "dog", "emu") and data.input_size == (3, 8, 8)
    assert len(data.val) == 0
    assert np.array_equal(data.train.images.permute(0, 2, 3, 1).numpy(), noise(30, seed=30))
    assert data.train.labels.tolist() == [i % 3 for i in range(30)]
    assert np.array_equal(data.test.images.permute(0, 2, 3, 1).numpy(), noise(9, seed=9))


@pytest.mark.parametrize("place", ["data", "cifar100", "."])
def test_the_hubs_sharded_layout_and_column_names(tmp_path, place):
    pixels = noise(12)
    for shard in range(2):
        part = slice(6 * shard, 6 * shard + 6)
        write_parquet(
            tmp_path / place / f"train-0000{shard}-of-00002.parquet",
            [png(p) for p in pixels[part]],
            list(range(12))[part],
            names=[f"c{i}" for i in range(12)],
            image_column="img",
            label_column="fine_label",
            more={"coarse_label": [0] * 6},
        )
    write_parquet(
        tmp_path / place / "test-00000-of-00001.parquet", [png(p) for p in pixels], range(12), names=None,
        image_column="img", label_column="fine_label",
    )  # fmt: skip
    data = open_data(tmp_path, val_fraction=0)
    assert data.num_classes == 12 and data.train.labels.tolist() == list(range(12))
    assert np.array_equal(data.train.images.permute(0, 2, 3, 1).numpy(), pixels)
    assert len(data.test) == 12


def test_gray_and_transparent_images_become_rgb(tmp_path):
    gray, rgba = noise(1)[0, :, :, 0], np.full((8, 8, 4), 60, np.uint8)
    write_parquet(tmp_path / "train.parquet", [png(gray), png(rgba)], [0, 1], names=None)
    write_parquet(tmp_path / "test.parquet", [png(gray)], [1], names=None)
    data = open_data(tmp_path, val_fraction=0)
    assert np.array_equal(data.train.images[0].numpy(), np.stack([gray] * 3))
    assert (data.train.images[1] == 60).all()
    assert data.classes == ("0", "1")


@pytest.mark.parametrize("test", ["test", "val"])
def test_an_image_folder(image_folder, test):
    data = open_data(image_folder({"train": 5, test: 2}), val_fraction=0)
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [0] * 5 + [1] * 5
    assert np.array_equal(data.train.images[7].permute(1, 2, 0).numpy(), noise(1, seed=102)[0])
    assert len(data.test) == 4


def test_a_published_test_split_without_labels_gives_way_to_validation(tmp_path):
    images = [png(p) for p in noise(6)]
    write_parquet(tmp_path / "train.parquet", images, [0, 1, 2] * 2)
    write_parquet(tmp_path / "test.parquet", images, [-1] * 6)
    write_parquet(tmp_path / "validation.parquet", images, [2] * 6)
    assert open_data(tmp_path).test.labels.tolist() == [2] * 6


def rows(split: Split) -> set[bytes]:
    return {image.numpy().tobytes() for image in split.images}


def test_validation_is_held_out_and_follows_the_seed(parquet_folder):
    one, two, other = (open_data(parquet_folder, val_fraction=0.2, seed=s) for s in (1, 1, 2))
    assert (len(one.train), len(one.val)) == (24, 6)
    assert not rows(one.train) & rows(one.val)
    assert one.val.labels.bincount().tolist() == [2, 2, 2]
    assert rows(one.val) == rows(two.val) != rows(other.val)


def test_limits_cut_before_validation_is_held_out(parquet_folder):
    whole = open_data(parquet_folder, val_fraction=0)
    one, other = (
        open_data(parquet_folder, val_fraction=0.2, train_limit=15, test_limit=6, seed=s) for s in (1, 2)
    )
    assert (len(one.train), len(one.val), len(one.test)) == (12, 3, 6)
    used = rows(one.train) | rows(one.val)
    assert used < rows(whole.train) and used != rows(other.train) | rows(other.val)
    assert used != {image.numpy().tobytes() for image in whole.train.images[:15]}
    assert rows(one.test) == rows(other.test) < rows(whole.test)


def test_the_test_images_are_not_touched_before_their_use(parquet_folder):
    write_parquet(parquet_folder / "test.parquet", [b"no image"] * 2, [0, 1])
    data = open_data(parquet_folder)
    with pytest.raises(ValueError, match=r"test\.parquet, row 0: cannot decode"):
        _ = data.test


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_many_images_are_decoded_by_several_processes(parquet_folder):
    pixels = noise(5200, size=(2, 2))
    write_parquet(parquet_folder / "train.parquet", [png(p) for p in pixels], [0] * 5200)
    state = torch.get_rng_state()
    data = open_data(parquet_folder, val_fraction=0)
    assert np.array_equal(data.train.images.permute(0, 2, 3, 1).numpy(), pixels)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_package_imports_nothing_heavy():
    heavy = "datasets", "PIL", "sklearn", "pyarrow", "torchvision"
    code = f"import sys, offramp.data; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_who_waits_for_labels_is_told_how_long(monkeypatch, capsys):
    """Of 40 samples the first six take six seconds."""
    clock = iter(range(1000))
    monkeypatch.setattr(_samples.time, "monotonic", lambda: float(next(clock)))
    pairs = [(torch.zeros(3, 4, 4), k % 2) for k in range(40)]
    open_data({"train": Without(pairs), "test": pairs[:4]})
    lines = capsys.readouterr().err.splitlines()
    (line,) = [line for line in lines if "are read for targets" in line]
    assert "all 40 samples are read for targets, about 1 min; a list of all labels" in line


class Without(torch.utils.data.Dataset):
    """Samples alone, without a list of their labels."""

    def __init__(self, pairs) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, row: int):
        return self.pairs[row]
