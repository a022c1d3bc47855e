"""A run's net evaluated again: on its own set, and on others."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import tiny_data, tiny_net

from offramp import Recipe, Run, UserError, fit
from offramp.data import ImageData, Split, Target, open_data

RECIPE = Recipe(epochs=1, batch_size=8, lr=0.05, augment="none")


def images(folder, *, classes=("cat", "dog", "emu"), sizes=((9, 9),), count=6, brightness=0):
    """An image folder: noise whose brightness tells the class."""
    draws = np.random.default_rng(brightness)
    for split in ("train", "test"):
        for label, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                noise = draws.integers(0, 60, (*sizes[i % len(sizes)], 3)) + 40 * label + brightness
                Image.fromarray(noise.astype(np.uint8)).save(folder / split / name / f"{i}.png")
    return folder


def net_for(size, classes=3, seed=0):
    net = tiny_net(seed, classes=classes)
    net.input_size = (3, size, size)
    return net


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trained on eight of eighteen images of 9x9."""
    folder = tmp_path_factory.mktemp("limited")
    recipe = RECIPE.replace(train_limit=9, test_limit=17)
    return fit(net_for(9), images(folder / "set"), "joint", recipe, folder / "run", quiet=True)


def seen(run, data, monkeypatch):
    """The images that the net is evaluated on."""
    batches = []
    monkeypatch.setattr(
        run.net.stages[0], "forward", lambda x: batches.append(x) or torch.zeros(len(x), 4, 5, 5)
    )
    run.evaluate(data)
    return torch.cat(batches[1:-1])  # the first tells how many classes there are, the last counts operations


def test_a_limited_run_repeats_its_result(run, monkeypatch):
    again = Run.open(run.folder, net_for(9, seed=8))
    assert again.evaluate() == run.result
    data = open_data(run.record["data"]["source"], train_limit=9, test_limit=17)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in data.statistics)
    expected = (data.test.images / 255 - mean) / std
    torch.testing.assert_close(seen(again, None, monkeypatch), expected, rtol=1e-4, atol=1e-5)


def test_other_data_are_normalised_as_the_training_was(run, tmp_path, monkeypatch):
    folder = images(tmp_path / "bright", count=2, brightness=90)
    mean, std = (torch.tensor(run.record["normalisation"][key]).view(3, 1, 1) for key in ("mean", "std"))
    own = open_data(run.record["data"]["source"], train_limit=9)
    assert run.record["normalisation"] == dict(zip(("mean", "std"), map(list, own.statistics), strict=True))
    expected = (open_data(folder).test.images / 255 - mean) / std  # all six of them: no limit
    torch.testing.assert_close(seen(run, folder, monkeypatch), expected, rtol=1e-4, atol=1e-5)


def test_the_record_outlives_the_training_set(tmp_path):
    """A set opened in Python may hold other training images by now."""
    data = tiny_data()
    run = fit(tiny_net(), data, "joint", RECIPE, tmp_path / "run", quiet=True)
    changed = tiny_data()
    changed.train.images = 255 - changed.train.images
    assert Run.open(run.folder, tiny_net()).evaluate(changed) == run.result


def test_images_of_many_sizes_train_and_evaluate(tmp_path):
    folder = images(tmp_path / "set", sizes=((40, 60), (70, 33), (35, 35)))
    recipe = RECIPE.replace(augment="imagenet", size=32, val_fraction=0)
    run = fit(net_for(32), folder, "dfs", recipe, tmp_path / "run", quiet=True)
    assert json.loads((run.folder / "run.json").read_text())["recipe"]["size"] == 32
    assert run.record["data"]["input_size"] == [3, 32, 32]
    assert Run.open(run.folder, net_for(32)).evaluate() == run.result


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sizes": ((12, 12),)}, ["(3, 9, 9)", "(3, 12, 12)"]),
        ({"classes": ("cat", "dog")}, ["3 classes", "other has 2"]),
        ({"classes": ("cat", "dog", "fox")}, ["'cat', 'dog', 'emu'", "'cat', 'dog', 'fox'"]),
        ({"classes": ("bat", "cat", "dog")}, ["'emu'", "'bat'"]),
    ],
)
def test_a_set_that_does_not_fit(run, tmp_path, changes, words):
    folder = images(tmp_path / "other", **changes)
    with pytest.raises(UserError) as caught:
        run.evaluate(folder)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_images_of_another_size_are_cut_as_their_refusal_says(run, tmp_path):
    for name, sizes, size in (("mixed", ((12, 12), (15, 11)), 224), ("large", ((12, 12),), 9)):
        folder = images(tmp_path / name, sizes=sizes)
        with pytest.raises(UserError, match=f"`size={size}`"):
            run.evaluate(folder)
        assert run.evaluate(folder, size=9)["data"] == name
    with pytest.raises(UserError, match=r"'sise' is no setting of other data.*'size'"):
        run.evaluate(folder, sise=9)
    with pytest.raises(UserError, match="size can be set for other data only"):
        run.evaluate(size=9)


def test_classes_without_names_fit(run):
    labels = torch.tensor([0, 1, 2])
    split = Split(torch.zeros(3, 3, 9, 9, dtype=torch.uint8), {"label": labels})
    data = ImageData(
        name="numbered",
        source="-",
        targets={"label": Target("class", tuple("012"))},
        train=split,
        val=split,
        load_test=lambda: split,
    )
    assert run.evaluate(data)["data"] == "numbered"
