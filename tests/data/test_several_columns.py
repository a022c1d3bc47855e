"""Several target columns: the same targets whatever holds them, and one line for what is no target."""

from __future__ import annotations

import csv
import json
import math
import re

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from small_sets import noise, png
from torch.utils.data import DataLoader, Dataset

from offramp import UserError
from offramp.data import Target, open_data
from offramp.data.opening import open_other

N = 6
IMAGES = noise(N)
COLUMNS = {
    "species": ["cat", "dog", None, "cat", "emu", "dog"],
    "label": [0, 2, -1, 1, None, 2],
    "tags": [[0, 1], [1, 1], None, [0, None], [0, 0], [1, 0]],
    "age": [0.5, 2.5, math.nan, None, 1.0, -3.25],
    "pose": [[0.5, 2.0], [1.5, 1.0], None, [3.25, None], [0.0, 0.0], [2.0, -7.0]],
    "box": [[0.0, 0.25, 0.5, 1.0], None, [0.5, 0.5, 0.5, 0.75], [0.0] * 2 + [1.0] * 2, None, [0.25] * 4],
}
TASKS = {"kind": "species", "class": "label", "tags": "tags", "age": "age", "pose": "pose", "box": "box"}
nan = math.nan
EXPECTED = {
    "kind": (Target("class", ("cat", "dog", "emu")), [0, 1, -100, 0, 2, 1]),
    "class": (Target("class", ("0", "1", "2")), [0, 2, -100, 1, -100, 2]),
    "tags": (Target("labels", ("0", "1")), [[0, 1], [1, 1], [nan, nan], [0, nan], [0, 0], [1, 0]]),
    "age": (Target("values", size=1), [[0.5], [2.5], [nan], [nan], [1.0], [-3.25]]),
    "pose": (Target("values", size=2), [[0.5, 2], [1.5, 1], [nan, nan], [3.25, nan], [0, 0], [2, -7]]),
    "box": (
        Target("box"),
        [[0, 0.25, 0.5, 1], [nan] * 4, [0.5, 0.5, 0.5, 0.75], [0, 0, 1, 1], [nan] * 4, [0.25] * 4],
    ),
}


def table(columns=COLUMNS):
    images = [{"bytes": png(image), "path": None} for image in IMAGES]
    return pa.table({"image": pa.array(images), **{name: pa.array(v) for name, v in columns.items()}})


def parquet_folder(folder, columns=COLUMNS, test=None):
    folder.mkdir(exist_ok=True)
    parquet.write_table(table(columns), folder / "train.parquet")
    parquet.write_table(table(columns if test is None else test), folder / "test.parquet")
    return folder


def jsonl_folder(folder):
    for split in ("train", "test"):
        with open(folder / f"{split}.jsonl", "w") as file:
            for row in range(N):
                (folder / f"{row}.png").write_bytes(png(IMAGES[row]))
                values = {name: column[row] for name, column in COLUMNS.items() if column[row] == column[row]}
                file.write(json.dumps({"image": f"{row}.png", **values}) + "\n")
    return folder


def csv_folder(folder):
    names = ("species", "label", "age")  # a cell holds no list
    for split in ("train", "test"):
        with open(folder / f"{split}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image", *names])
            for row in range(N):
                (folder / f"{row}.png").write_bytes(png(IMAGES[row]))
                writer.writerow([f"{row}.png", *(COLUMNS[name][row] for name in names)])
    return folder


def hub(_):
    import datasets

    pairs = [
        dict(zip(("image", *COLUMNS), row, strict=True))
        for row in zip(IMAGES, *COLUMNS.values(), strict=True)
    ]
    features = datasets.Dataset(table()).features
    features["image"] = datasets.Image()
    rows = [{**pair, "image": {"bytes": png(pair["image"]), "path": None}} for pair in pairs]
    return datasets.Dataset.from_list(rows, features=features)


class Pairs(Dataset):
    """Gives (image, {name: target}), as Tensors, arrays and plain values; what is None may be missing."""

    def __init__(self, tensors=True):
        self.tensors = tensors

    def __len__(self):
        return N

    def __getitem__(self, row):
        targets = {name: column[row] for name, column in COLUMNS.items()}
        if self.tensors:
            plain = {name: v for name, v in targets.items() if v is not None and None not in np.atleast_1d(v)}
            targets |= {name: torch.tensor(v) for name, v in plain.items() if name != "species"}
            targets = {name: value for name, value in targets.items() if value is not None}
        return IMAGES[row], targets


def whole(samples):
    """A batch as it is, whatever is in it: (images, {name: column})."""
    images, targets = zip(*samples, strict=True)
    return list(images), {name: [target[name] for target in targets] for name in COLUMNS}


SOURCES = {
    "parquet": parquet_folder,
    "jsonl": jsonl_folder,
    "csv": csv_folder,
    "hub": hub,
    "tensors": lambda _: Pairs(),
    "plain": lambda _: Pairs(tensors=False),
    "pairs": lambda _: [Pairs()[row] for row in range(N)],
    "mappings": lambda _: [
        {"image": image, **targets} for image, targets in map(Pairs().__getitem__, range(N))
    ],
    "columns": lambda _: (IMAGES, COLUMNS),
    "loader": lambda _: DataLoader(Pairs(tensors=False), batch_size=4, collate_fn=whole),
}


@pytest.mark.parametrize("source", SOURCES)
def test_targets_are_the_same_whatever_holds_them(source, tmp_path):
    keys = ("kind", "class", "age") if source == "csv" else tuple(TASKS)
    data = open_data(SOURCES[source](tmp_path), tasks={key: TASKS[key] for key in keys}, val_fraction=0)
    assert data.targets == {key: EXPECTED[key][0] for key in keys}
    rows = [0, 1, 3, 4, 5] if source == "csv" else list(range(N))  # the third has none of these three targets
    for split in (data.train, data.test):
        for key in keys:
            expected = torch.tensor(EXPECTED[key][1])[rows]
            torch.testing.assert_close(
                split.targets[key], expected, equal_nan=True, check_dtype=key != "tags"
            )
    assert torch.equal(data.train.images, torch.from_numpy(IMAGES[rows]).permute(0, 3, 1, 2))
    if source == "parquet":
        assert f"no 'box': 2 of {N} training, 2 of {N} test samples, which its loss leaves out" in data.notes


def test_targets_that_a_data_set_brings_by_name_need_no_tasks():
    data = open_data(Pairs(tensors=False), val_fraction=0.4)
    assert list(data.targets) == [*COLUMNS]
    assert len(data.train) == 4 and len(data.val) == 2
    again = open_data(Pairs(tensors=False), tasks={name: name for name in COLUMNS}, val_fraction=0.4)
    assert again.digest == data.digest


def test_what_is_asked_for_may_be_of_another_kind(tmp_path):
    columns = {
        **COLUMNS,
        "year": [2001, 2003, 2001, 2000, None, 2001],
        "size": [3.0, 4.0, 3.0, None, 5.0, 3.0],
    }
    tasks = "a:year:values,b:year,c:size:class,d:size:values,e:box:values"
    data = open_data(parquet_folder(tmp_path, columns), tasks=tasks)
    kinds = {key: (target.kind, target.size) for key, target in data.targets.items()}
    assert kinds == {
        "a": ("values", 1),
        "b": ("class", 3),
        "c": ("class", 3),
        "d": ("values", 1),
        "e": ("values", 4),
    }
    with pytest.raises(
        UserError, match=r"'size' and on: whole numbers, written as .*`tasks={d: size:class}` or"
    ):
        open_data(tmp_path, tasks="d:size")


def test_classes_and_labels_to_ignore(tmp_path):
    parquet_folder(tmp_path)
    data = open_data(
        tmp_path, tasks={"class": "label", "box": "box"}, classes=5, ignore_label=2, val_fraction=0
    )
    assert data.targets["class"].classes == tuple("01234")
    assert data.train.targets["class"].tolist() == [0, -100, 1, -100]  # of those with a class or a box
    with pytest.raises(UserError, match="classes=5 are of one target, and kind and class of `tasks` has"):
        open_data(tmp_path, tasks={"kind": "species", "class": "label"}, classes=5)


def test_validation_is_stratified_by_the_first_complete_class(tmp_path):
    labels = [0, 0, 0, 1, 1, 1]
    columns = {"label": labels, "value": [0.5 * i for i in range(N)]}
    parquet_folder(tmp_path, columns)
    for seed in range(5):
        data = open_data(tmp_path, tasks="class:label,v:value", val_fraction=1 / 3, seed=seed)
        assert sorted(data.val.targets["class"].tolist()) == [0, 1]
        alone = open_data(tmp_path, tasks="v:value", val_fraction=1 / 3, seed=seed)
        held = {*alone.val.targets["v"][:, 0].tolist()}
        assert held | {*alone.train.targets["v"][:, 0].tolist()} == {*columns["value"]} and len(held) == 2


def test_another_set_has_the_targets_of_the_net(tmp_path):
    known = {"class": Target("class", ("0", "1", "2")), "box": Target("box")}
    columns = {"kind": [2, 2, 2, 2, 2, -1], "box": COLUMNS["box"]}
    folder = parquet_folder(tmp_path, columns)
    data = open_other(folder, known, tasks={"class": "kind", "box": "box"})
    assert data.targets == known and data.test.targets["class"].tolist() == [2, 2, 2, 2, 2, -100]
    with pytest.raises(
        UserError, match=r"no column 'class' among image, kind, box; choose that of 'class' by"
    ):
        open_other(folder, known)


BAD = {
    "a missing column": ({}, "class:lable,box:box", "no column 'lable' (did you mean 'label'?) among image"),
    "two missing columns": ({}, "a:nope,b:nil", "no column 'nope' among.*'a'.*, and no column 'nil' among"),
    "negative everywhere": (
        {"label": [-1] * N},
        "class:label",
        "'label' and on: no training sample has a class",
    ),
    "null everywhere": ({"box": [None] * N}, "box:box", "no targets|'box' and on: no sample has a value"),
    "NaN everywhere": ({"age": [nan] * N}, "age:age:values", "'age' and on: no training sample has a value"),
    "lists of other lengths": (
        {"pose": [[1.5], [1.5, 2.5], *[None] * 4]},
        "pose:pose",
        "row 1, 'pose' has 2 numbers where others have 1",
    ),
    "words for numbers": ({}, "age:species:values", "'species' is 'cat', and numbers are needed (values)"),
    "numbers for a class": ({}, "kind:age:class", "'age' is 0.5, which is no class"),
    "lists for a class": ({}, "kind:pose:class", "'pose' is [0.5, 2.0], which is no class"),
    "pixels": (
        {"box": [[3.0, 4.0, 20.0, 30.0]] * N},
        "box:box",
        "reaches beyond 0 ... 1.*divide pixels by width",
    ),
    "inside out": (
        {"box": [[0.5, 0.5, 0.25, 1.0]] * N},
        "box:box",
        "turned inside out.*x1 is x0 plus the width",
    ),
    "half a box": ({"box": [[0.5, None, 0.75, 1.0]] * N}, "box:box", "is a part of a box; give four numbers"),
    "three numbers": (
        {"box": [[0.5, 0.5, 0.75]] * N},
        "box:box:box",
        "0.75], and a box is four numbers",
    ),
    "infinite": ({"age": [math.inf, 1.5, *[0.5] * 4]}, "age:age", "'age' is not finite"),
    "no label of several": ({}, "tags:pose:labels", "holds 0.5, and each of several labels is 1, 0, or null"),
    "like a box": (
        {"frame": [[0.0, 0.0, 0.5, 1.0]] * N},
        "frame:frame",
        "that grow as those of a box do; say what they are, by `tasks={frame: frame:box}` or `tasks={frame:",
    ),
    "whole numbers in lists": (
        {"pose": [[1, 2]] * N},
        "pose:pose",
        "lists of whole numbers; say what they are",
    ),
    "a table in a cell": (
        {"pose": [{"x": 1}] * N},
        "pose:pose",
        "no targets (numbers, words, or lists of numbers)",
    ),
    "words in lists": ({"pose": [["x"]] * N}, "pose:pose", "no targets (lists of numbers)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_columns_are_one_line(case, tmp_path):
    changed, tasks, line = BAD[case]
    parquet_folder(tmp_path, {**COLUMNS, **changed})
    with pytest.raises(UserError) as caught:
        open_data(tmp_path, tasks=tasks)
    words = "|".join(".*".join(map(re.escape, part.split(".*"))) for part in line.split("|"))
    assert re.search(words, str(caught.value)) and "\n" not in str(caught.value), str(caught.value)


def test_many_different_values_are_asked_about(tmp_path):
    images = [(noise(1)[0], {"price": 3 * i, "word": f"w{i}"}) for i in range(50)]
    with pytest.raises(
        UserError, match=r"50 different whole numbers in 50 rows; say .*price:class}` or .*values}`"
    ):
        open_data(images, tasks="price:price")
    with pytest.raises(UserError, match="50 different words in 50 rows"):
        open_data(images, tasks="word:word")
    assert open_data(images, tasks="word:word:class").targets["word"].size == 50


def test_a_class_of_the_test_split_that_training_lacks(tmp_path):
    folder = parquet_folder(tmp_path, test={**COLUMNS, "species": ["owl", *COLUMNS["species"][1:]]})
    with pytest.raises(
        UserError, match=r"'species' is 'owl', none of the classes cat, dog, emu \(1 such rows\)"
    ):
        open_data(folder, tasks="kind:species")
    data = open_data(folder, tasks="kind:species", ignore_label="owl")
    assert data.test.targets["kind"].tolist() == [1, 0, 2, 1]


def test_a_test_split_without_targets_gives_way_to_validation(tmp_path):
    empty = {**COLUMNS, "box": [None] * N, "label": [-1] * N}
    parquet.write_table(table(), tmp_path / "validation.parquet")
    data = open_data(parquet_folder(tmp_path, test=empty), tasks="class:label,box:box:box")
    assert data.test.targets["class"].tolist() == [0, 2, -100, 1, 2]


def test_samples_without_any_target_are_left_out_of_every_split(tmp_path):
    kinds = [0, None, None, 1, None, None]
    parquet_folder(tmp_path, {"kind": kinds, "other": [None, None, None, 0.5, 1.5, None]})
    data = open_data(tmp_path, tasks="kind:kind", val_fraction=0)
    for split in (data.train, data.test):
        assert split.targets["kind"].tolist() == [0, 1]
        assert torch.equal(split.images, torch.from_numpy(IMAGES[[0, 3]]).permute(0, 3, 1, 2))
    assert "no target at all: 4 of 6 training, 4 of 6 test samples, which are left out" in data.notes
    both = open_data(tmp_path, tasks="kind:kind,other:other", val_fraction=0)
    assert both.train.targets["kind"].tolist() == [0, 1, -100]
    for seed in range(8):  # so that whatever is held out, or cut to, has something to measure
        few = open_data(tmp_path, tasks="kind:kind", val_fraction=0.5, test_limit=1, seed=seed)
        assert len(few.train) == len(few.val) == len(few.test) == 1
        assert (few.val.targets["kind"] >= 0).all() and (few.test.targets["kind"] >= 0).all()


TEXTS = {
    3: "tasks is 3, must be names with their columns, e.g. {class: label, box: box} or class:label,box:box",
    "label": "tasks has 'label', must be names",
    "a:b,": "tasks has '', must be names",
    "a:b,a:c": "tasks has 'a' twice",
    "a:b:bos": "'bos' is no kind of target (did you mean 'box'?); there are class, labels",
}


@pytest.mark.parametrize("tasks", [*TEXTS, {}, {"a": 3}])
def test_tasks_that_cannot_be_read(tasks):
    line = TEXTS.get(tasks, "tasks ") if isinstance(tasks, (str, int)) else "tasks "
    with pytest.raises(UserError, match=re.escape(line)):
        open_data("digits", tasks=tasks)


def test_a_set_of_one_class_has_the_column_label(tmp_path):
    data = open_data("digits", tasks="digit:label", train_limit=50)
    assert data.targets == {"digit": Target("class", tuple("0123456789"))}
    with pytest.raises(UserError, match="digits: no column 'box' among label; choose that of 'where' by"):
        open_data("digits", tasks="digit:label,where:box")
    with pytest.raises(UserError, match="label='label' is the column of a set's one class"):
        open_data("digits", tasks="digit:label", label="label")


class Moving(Pairs):
    """Moves its images at random, and their boxes with them."""

    def __init__(self, *, targets):
        super().__init__(tensors=False)
        self.changes = targets

    def __getitem__(self, row):
        image, targets = super().__getitem__(row)
        shift = float(torch.rand(()))
        box = [0.0, 0.0, shift, 1.0] if self.changes else [0.0, 0.0, 0.5, 1.0]
        return image, {"class": targets["label"], "box": box}


def test_a_data_set_that_moves_its_images_itself():
    with pytest.raises(UserError, match="its targets differ each time that they are read"):
        open_data(Moving(targets=True))
    with pytest.raises(
        UserError, match="may move images away from their box; leave them out, and have both moved"
    ):
        open_data(Moving(targets=False))
    assert open_data(Moving(targets=False), tasks="class:class").targets["class"].size == 3
