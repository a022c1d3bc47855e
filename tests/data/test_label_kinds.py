"""Which classes a set has: one rule for labels of every kind."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from small_sets import noise, png

from offramp import UserError
from offramp.data import Target, open_data
from offramp.data._labels import Labels
from offramp.data.opening import open_other


def table(file, labels):
    images = [png(pixels) for pixels in noise(len(labels))]
    parquet.write_table(pa.table({"image": images, "label": labels}), file)


@pytest.fixture
def folder_of(tmp_path):
    def make(train, test):
        table(tmp_path / "train.parquet", train)
        table(tmp_path / "test.parquet", test)
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("train", "test", "classes", "places"),
    [
        (["cat", "dog", "cat", "ant"], ["dog", "ant"], ("ant", "cat", "dog"), [2, 0]),
        ([True, False, True], [False, True], ("False", "True"), [0, 1]),
        ([1.0, 0.0, 2.0], [2.0, 0.0], ("0", "1", "2"), [2, 0]),
        ([1, 2, 3, 1], [3, 1], ("1", "2", "3"), [2, 0]),
        ([10, 2, 700, 2], [700, 2, 10], ("2", "10", "700"), [2, 0, 1]),
        (pa.array(["b", "a", "b"]).dictionary_encode(), ["a", "b"], ("a", "b"), [0, 1]),
        (np.array([1, 0, 255], np.uint8), [255], ("0", "1", "255"), [2]),
    ],
    ids=["words", "truth", "whole floats", "from one", "gaps", "dictionary", "bytes"],
)
def test_the_classes_are_the_sorted_labels_of_the_training_split(folder_of, train, test, classes, places):
    data = open_data(folder_of(train, test), val_fraction=0)
    assert data.classes == classes
    assert data.test.labels.tolist() == places
    stored = train.to_pylist() if isinstance(train, pa.Array) else list(train)
    words = [str(int(v)) if isinstance(v, (float, np.integer)) else str(v) for v in stored]
    assert [data.classes[i] for i in data.train.labels] == words


def test_gaps_are_told_and_ordinary_labels_are_not(folder_of):
    assert open_data(folder_of([0, 1, 2], [1]), val_fraction=0).notes == ()
    (note,) = open_data(folder_of([1, 5, 9], [1]), val_fraction=0).notes
    assert "1, 5, 9: 3 classes" in note


@pytest.mark.parametrize(
    ("labels", "ignored", "told"),
    [
        ([0, 1, 2], 77, "no sample has the label 77; the labels are [0, 1, 2]"),
        ([0, 1, 2], True, "no sample has the label True; the labels"),
        ([0, 1, 2], [2, 77, -1], "no sample has the label -1, 77; the labels"),
        (["cat", "dog"], "Cat", "no sample has the label Cat; the labels are ['cat', 'dog']"),
        ([0, 1, 2], 2, None),
        ([True, False], True, None),
        ([0, 1, -1], -1, None),
    ],
)
def test_a_label_to_ignore_that_is_not_there_is_told(folder_of, labels, ignored, told):
    notes = open_data(folder_of(labels, labels[:2]), val_fraction=0, ignore_label=ignored).notes
    notes = [note for note in notes if note.startswith("ignore_label")]
    assert len(notes) == (told is not None)
    if told is not None:
        assert notes[0].startswith(f"ignore_label: {told}")


def test_a_label_of_the_test_split_alone_is_there(folder_of):
    data = open_data(folder_of([0, 1, 2], [1, 9]), val_fraction=0, ignore_label=9)
    assert data.notes == () and len(data.test) == 1


@pytest.mark.parametrize("label", [7, "emu"])
def test_a_label_of_the_test_split_that_is_no_class_names_its_row(folder_of, label):
    train = [0, 1, 2] if label == 7 else ["cat", "dog", "cat"]
    folder = folder_of(train, [train[0], label])
    with pytest.raises(UserError) as caught:
        open_data(folder, val_fraction=0)
    assert f"test.parquet, row 1: label {label!r} is none of" in str(caught.value)
    with_it = open_data(folder, val_fraction=0, classes=sorted({*train, label}))
    assert with_it.test.labels.tolist() == [0, len({*train})]
    without = open_data(folder, val_fraction=0, ignore_label=label)
    assert len(without.test) == 1 and without.num_classes == len({*train})


def test_negative_labels_mean_none_unless_told_otherwise(folder_of):
    folder = folder_of([0, 1, -1, 1], [0, 1])
    with pytest.raises(UserError) as caught:
        open_data(folder, val_fraction=0)
    line = str(caught.value)
    assert "row 2: label -1 means that there is none (1 such rows)" in line
    assert "`ignore_label=-1`" in line and "`classes=[-1, 0, 1]`" in line
    ignored = open_data(folder, val_fraction=0, ignore_label=-1)
    assert ignored.classes == ("0", "1") and ignored.train.labels.tolist() == [0, 1, 1]
    taken = open_data(folder, val_fraction=0, classes=[-1, 0, 1])
    assert taken.classes == ("-1", "0", "1") and taken.train.labels.tolist() == [1, 2, 0, 2]


def test_a_number_of_classes_or_their_names_may_be_given(folder_of):
    folder = folder_of([0, 2, 2], [2])
    assert open_data(folder, val_fraction=0, classes=5).num_classes == 5
    named = open_data(folder, val_fraction=0, classes=["a", "b", "c"])
    assert named.classes == ("a", "b", "c") and named.train.labels.tolist() == [0, 2, 2]


def test_very_many_labels_ask_whether_they_are_classes(monkeypatch):
    monkeypatch.setattr("offramp.data._decide_classes.MANY", 4)
    images, labels = torch.zeros(6, 3, 4, 4, dtype=torch.uint8), torch.arange(6) * 2
    with pytest.raises(UserError, match=r"6 different labels.*`classes=11`"):
        open_data((images, labels), val_fraction=0)
    assert open_data((images, labels), val_fraction=0, classes=11).num_classes == 11


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([0.5, 1.5, 2.0], "regression"),
        ([[0, 1], [1, 0], [1, 1]], "several labels at once"),
        ([0, None, 1], "no label"),
    ],
)
def test_what_is_no_class_is_refused_by_what_it_is(folder_of, labels, reason):
    with pytest.raises(UserError, match=reason):
        open_data(folder_of(labels, [0, 1]), val_fraction=0)


def test_labels_of_two_kinds_are_refused():
    pairs = list(zip(noise(4), [0, "cat", 1, "dog"], strict=True))
    with pytest.raises(UserError, match=r"sample 0.*label 0 is of another kind than 'cat'.*sample 1"):
        open_data(pairs)


def test_a_validation_split_of_the_set_is_used_unless_turned_off(folder_of):
    folder = folder_of([0, 1] * 5, [1, 0])
    table(folder / "validation.parquet", [1, 1, 0])
    assert open_data(folder, val_fraction=0.4).val.labels.tolist() == [1, 1, 0]
    held = open_data(folder, val_fraction=0.4, val_split=False)
    assert (len(held.val), len(held.train)) == (4, 6)


def test_other_data_are_read_with_the_known_classes(folder_of):
    folder = folder_of([2, 2, 2], [2, 2])
    data = open_other(folder, {"label": Target("class", tuple("012"))})
    assert data.classes == ("0", "1", "2") and data.test.labels.tolist() == [2, 2]


@pytest.mark.parametrize(
    "labels", [[7, -3, 7, 0, 2**62, -3], [0], [True, 1, 0], [1, 2.0, None, 2], [2**63, 1]]
)
def test_labels_are_numbered_in_the_order_in_which_they_occur(labels):
    different: list[object] = []
    expected = []
    for label in labels:
        value = int(label) if isinstance(label, float) else label
        known = [k for k, other in enumerate(different) if type(other) is type(value) and other == value]
        if value is not None and not known:
            different.append(value)
            known = [len(different) - 1]
        expected.append(known[0] if value is not None else -1)
    found = Labels.of(labels, str)
    assert found.codes.tolist() == expected
    assert [*map(repr, found.values)] == [*map(repr, different)]
    assert found.codes.dtype == np.int64
