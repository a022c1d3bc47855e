"""A run does not go on where the labels of its samples have changed, though their numbers have not."""

import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from offramp import Recipe, UserError, fit, nets
from offramp.data import open_data
from offramp.runs.record import check_same, read_record

RECIPE = Recipe(epochs=1, batch_size=4, val_fraction=0.25, augment="none")
COUNTS = {"train": 12, "test": 4}


def draw(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 2 + number, (32, 32, 3), np.uint8)  # of unlike sizes
    Image.fromarray(pixels).save(path)


def image_folder(folder):
    """Class folders, whose images are called differently."""
    for split, count in COUNTS.items():
        for number in range(count):
            name = "ab"[number % 2]
            draw(folder / split / name / f"{name}{number}.png", number)


def table_of_paths(folder):
    for split, count in COUNTS.items():
        for number in range(count):
            draw(folder / split / f"{number}.png", number)
        rows = [f"{split}/{number}.png,{'ab'[number % 2]}\n" for number in range(count)]
        (folder / f"{split}.csv").write_text("image,label\n" + "".join(rows))


def table_of_images(folder):
    for split, count in COUNTS.items():
        images = []
        for number in range(count):
            draw(folder / "image.png", number)
            images.append((folder / "image.png").read_bytes())
        write(folder / f"{split}.parquet", images, [number % 2 for number in range(count)])


def write(file, images, labels):
    table = pyarrow.table({"image": images, "label": labels})
    pyarrow.parquet.write_table(table, file)


def moved(folder, split):
    """An image of each class folder lies in the other."""
    classes = folder / split
    (classes / "a" / "a2.png").rename(classes / "b" / "a2.png")
    (classes / "b" / "b1.png").rename(classes / "a" / "b1.png")


def renamed(folder, split):
    """An image of each class folder has the name of the other; their sizes differ."""
    first, second = folder / split / "a" / "a0.png", folder / split / "b" / "b1.png"
    contents = first.read_bytes(), second.read_bytes()
    assert len(contents[0]) != len(contents[1])
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])


def other_labels(folder, split):
    """The labels of two rows are exchanged."""
    path = folder / f"{split}.csv"
    path.write_text(path.read_text().replace("/0.png,a", "/0.png,b").replace("/1.png,b", "/1.png,a"))


def other_paths(folder, split):
    """The paths of two rows are exchanged."""
    path = folder / f"{split}.csv"
    path.write_text(path.read_text().replace("/0.", "/?.").replace("/1.", "/0.").replace("/?.", "/1."))


def other_numbers(folder, split):
    """The labels of two rows are exchanged."""
    table = pyarrow.parquet.read_table(folder / f"{split}.parquet").to_pydict()
    write(folder / f"{split}.parquet", table["image"], [*table["label"][1::-1], *table["label"][2:]])


CHANGES = [
    (image_folder, moved),
    (image_folder, renamed),
    (table_of_paths, other_labels),
    (table_of_paths, other_paths),
    (table_of_images, other_numbers),
]


@pytest.mark.parametrize("split", COUNTS)
@pytest.mark.parametrize(("make", "change"), CHANGES)
def test_exchanged_labels_are_noticed_and_a_set_that_has_moved_is_the_same(tmp_path, make, change, split):
    folder = tmp_path / "set"
    folder.mkdir()
    make(folder)
    before = open_data(str(folder)).labels_digest
    folder = folder.rename(tmp_path / "moved")
    assert open_data(str(folder)).labels_digest == before
    assert open_data(str(folder), seed=1, val_fraction=0.5, train_limit=8).labels_digest == before
    change(folder, split)
    assert open_data(str(folder)).labels_digest != before


@pytest.fixture
def begun(tmp_path):
    """A run on an image folder; and the folder."""
    image_folder(tmp_path / "set")
    net = nets.vgg7(2, width=2)
    fit(net, str(tmp_path / "set"), "joint", RECIPE, tmp_path / "run", quiet=True)
    (tmp_path / "run" / "result.json").unlink()
    return tmp_path / "run", tmp_path / "set"


def go_on(run, data):
    return fit(nets.vgg7(2, width=2), data, None, None, run, resume=True, quiet=True)


def test_a_run_does_not_go_on_with_other_labels(begun):
    run, folder = begun
    moved(folder, "train")
    with pytest.raises(UserError, match="set has as many samples as it had, but other labels, or files of"):
        go_on(run, str(folder))
    (folder / "train/b/a2.png").rename(folder / "train/a/a2.png")
    (folder / "train/a/b1.png").rename(folder / "train/b/b1.png")
    go_on(run, str(folder))


def test_one_of_several_sets_is_named(begun):
    run, _ = begun
    before = read_record(run)
    first = before["data"]
    second = first | {"name": "second", "labels_digest": "0123"}
    before["data"] = first | {"sets": {"first": first, "second": second}}
    now = before | {"data": first | {"sets": {"first": first, "second": second | {"labels_digest": "4567"}}}}
    check_same(run, before, before)
    with pytest.raises(UserError, match="other data: second has as many samples"):
        check_same(run, before, now)


def test_a_run_from_before_there_was_a_digest_goes_on(begun):
    run, folder = begun
    path = run / "run.json"
    record = json.loads(path.read_text())
    del record["data"]["labels_digest"]
    path.write_text(json.dumps(record))
    sums = (run / "SHA256SUMS").read_text().splitlines(keepends=True)
    (run / "SHA256SUMS").write_text("".join(line for line in sums if not line.endswith("run.json\n")))
    go_on(run, str(folder))
