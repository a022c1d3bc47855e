"""Tables whose metadata, columns or class names are not what they should be: text, or one line."""

from __future__ import annotations

import json
import os

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from small_sets import noise, png, refused

from offramp.data import Target, open_data
from offramp.errors import shown

IMAGES = [png(pixels) for pixels in noise(6)]
STRUCTS = pa.array([{"bytes": content, "path": None} for content in IMAGES])
LABELS = pa.array([0, 1, 2, 0, 1, 2])
WORDS = pa.array(["a", "b", "c"] * 2)


def short(value):
    """The name of a test's parameter."""
    return shown(value, 30)


@pytest.fixture
def folder_of(tmp_path):
    """A folder whose two splits are this table."""

    def make(columns, metadata=None):
        table = columns if isinstance(columns, pa.Table) else pa.table(columns)
        for split in ("train", "test"):
            parquet.write_table(table.replace_schema_metadata(metadata), tmp_path / f"{split}.parquet")
        return tmp_path

    return make


def features(**of_columns):
    return {"huggingface": json.dumps({"info": {"features": of_columns}})}


@pytest.mark.parametrize(
    ("stored", "what"),
    [
        (b"", "are no JSON"),
        (b"{", "are no JSON"),
        (b"\xff\xfe", "are no JSON"),
        (b"[" * 100_000, "are no JSON"),
        (b'{"a":' * 5000, "are no JSON"),
        (b'{"info": ' + b"1" * 6000 + b"}", "are no JSON"),
        (b"[]", "are no mapping that tells 'info'"),
        (b"null", "are no mapping that tells 'info'"),
        (b"NaN", "are no mapping that tells 'info'"),
        (b'{"info": 3}', "are no mapping that tells 'features'"),
        (b'{"info": {"features": []}}', "tell 'features' that are no mapping"),
        (b'{"info": {"features": "image"}}', "tell 'features' that are no mapping"),
    ],
    ids=short,
)
def test_metadata_of_another_shape_are_refused(folder_of, stored, what):
    folder = folder_of({"image": STRUCTS, "label": LABELS}, {"huggingface": stored})
    refused([f".parquet: its metadata 'huggingface' {what}; write the file anew"], folder)


@pytest.mark.parametrize(
    "stored",
    [
        b"{}",
        b'{"info": null}',
        b'{"info": {}}',
        b'{"info": {"features": null}}',
        b'{"info": {"features": {"image": null, "label": 3}}}',
        b'{"info": {"features": {"label": [{"dtype": "int64", "_type": "Value"}], "image": {"_type": []}}}}',
        b'{"info": {"features": {"label": {"names": null, "_type": "ClassLabel"}}}}',
    ],
    ids=short,
)
def test_metadata_that_say_nothing_of_a_column_leave_it_as_it_is(folder_of, stored):
    folder = folder_of({"image": STRUCTS, "label": LABELS}, {"huggingface": stored})
    assert open_data(folder, val_fraction=0).classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("names", "what"),
    [
        ([None, "b", "c"], "class 0 is called None, which is no text"),
        (["a", [], "c"], r"class 1 is called [], which is no text"),
        ([{}, "b", "c"], "class 0 is called {}, which is no text"),
        ([0.5, 1, 2], "class 0 is called 0.5, which is no text"),
        ([float("nan"), 1, 2], "class 0 is called nan, which is no text"),
        (["a", "", "c"], "class 1 has an empty name"),
        (["a", " \t", "c"], "class 1 has an empty name"),
        (["a", "b", "x" * 100_000], "class 2 has a name of more than 255 characters"),
        ([10**400, 1, 2], "class 0 has a name of more than 255 characters"),
        (["a\0", "b", "c"], r"class 0 is called 'a\x00', which has characters that cannot be printed"),
        (["a", "b\n", "c"], r"class 1 is called 'b\n', which has characters"),
        (["\ud800", "b", "c"], r"class 0 is called '\ud800', which has characters"),
        (["\x1b[31m", "b", "c"], r"class 0 is called '\x1b[31m', which has characters"),
        ("abc", "the names of the classes are 'abc', no list"),
        ({"0": "a"}, "the names of the classes are {'0': 'a'}, no list"),
        (3, "the names of the classes are 3, no list"),
    ],
    ids=short,
)
@pytest.mark.parametrize("settings", [{}, {"tasks": {"kind": "label"}}], ids=["class", "tasks"])
def test_class_names_that_are_no_names_are_refused(folder_of, names, what, settings):
    declared = features(label={"_type": "ClassLabel", "names": names})
    folder = folder_of({"image": STRUCTS, "label": LABELS}, declared)
    refused([".parquet, 'label': ", what, ";"], folder, **settings)


def test_names_of_columns_that_nobody_reads_may_be_anything(folder_of):
    declared = features(other={"_type": "ClassLabel", "names": [None]})
    folder = folder_of({"image": STRUCTS, "label": LABELS, "other": LABELS}, declared)
    assert open_data(folder, val_fraction=0).classes == ("0", "1", "2")


@pytest.mark.parametrize(
    "names", [[7, 8, 9], [True, False, 2], ["é", "日本", "😀"], ["1", "0", "2"]], ids=short
)
def test_numbers_and_truth_values_become_text(folder_of, names):
    declared = features(label={"_type": "ClassLabel", "names": names})
    data = open_data(folder_of({"image": STRUCTS, "label": LABELS}, declared), val_fraction=0)
    assert data.classes == tuple(map(str, names)) and data.notes == ()
    assert data.train.labels.tolist() == LABELS.to_pylist()


@pytest.mark.parametrize("names", [["a", "crane", "crane"], ["a", 1, "1"]], ids=short)
def test_classes_of_one_name_are_trained_apart_and_told(folder_of, names):
    """ImageNet has two classes called crane."""
    declared = features(label={"_type": "ClassLabel", "names": names})
    data = open_data(folder_of({"image": STRUCTS, "label": LABELS}, declared), val_fraction=0)
    assert data.train.labels.tolist() == LABELS.to_pylist()
    (note,) = data.notes
    assert f"2 classes are called {str(names[2])!r} (1, 2)" in note


@pytest.mark.parametrize(
    ("label", "what"),
    [
        ("x" * 100_000, "label 0 has a name of more than 255 characters"),
        ("a\0b", "cannot be printed"),
        ("a\r", "cannot be printed"),
        (" ", "has an empty name"),
    ],
    ids=short,
)
def test_words_that_are_no_names_are_refused_where_the_set_names_no_classes(folder_of, label, what):
    refused([what], folder_of({"image": STRUCTS, "label": [label, "z"] * 3}), val_fraction=0)


@pytest.mark.parametrize(
    "names", [["a", "a", "b"], ["", "b", "c"], ["a\0", "b", "c"], [None, 1, 2]], ids=short
)
def test_classes_that_are_given_are_names_each_once(folder_of, names):
    refused(["class"], folder_of({"image": STRUCTS, "label": LABELS}), classes=names)


def test_a_word_is_no_list_of_classes(folder_of):
    refused(["classes", "'abc'", "must be"], folder_of({"image": STRUCTS, "label": LABELS}), classes="abc")


def test_a_word_of_no_letters_is_no_label(folder_of):
    folder = folder_of({"image": STRUCTS, "label": ["a", "b", "", "a", "b", ""]})
    refused([".parquet, row 2: no label; label or remove the row"], folder, val_fraction=0)


def test_labels_that_are_one_number_in_two_ways_are_one_class(folder_of):
    data = open_data(folder_of({"image": STRUCTS, "label": [0.0, -0.0, 1.0] * 2}), val_fraction=0)
    assert data.classes == ("0", "1") and data.train.labels.tolist() == [0, 0, 1] * 2


def test_not_a_number_is_no_label_beside_others(folder_of):
    folder = folder_of({"image": STRUCTS, "label": [0.0, 1.0, float("nan")] * 2})
    refused([".parquet, row 2: no label"], folder, val_fraction=0)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([{"path": 3}] * 6),
        pa.array([{"bytes": None, "path": 3}] * 6),
        pa.array([{"path": b"x.png"}] * 6),
        pa.array([{"bytes": 3}] * 6),
        pa.array([{"bytes": "text"}] * 6),
        pa.array([{"bytes": [1, 2]}] * 6),
        pa.array([{"data": b"x"}] * 6),
        pa.StructArray.from_arrays([pa.array(IMAGES)] * 2, ["bytes", "bytes"]),
        pa.array([{f"part {i}": i for i in range(500)}] * 6),
        pa.array([[1, 2]] * 6),
    ],
    ids=short,
)
def test_structs_of_other_things_are_no_images(folder_of, column):
    refused(["column 'image' holds", "no images"], folder_of({"image": column, "label": LABELS}))


def test_a_struct_of_paths_needs_no_bytes(folder_of):
    folder = folder_of({"image": [{"path": f"{i}.png"} for i in range(6)], "label": LABELS})
    for number, content in enumerate(IMAGES):
        (folder / f"{number}.png").write_bytes(content)
    assert len(open_data(folder, val_fraction=0).train) == 6


@pytest.mark.parametrize(
    "path",
    ["x\0.png", "x" * 300, "x" * 100_000, "/dev/zero", "/dev/stdin", ".", "pipe"],
    ids=short,
)
def test_paths_that_lead_to_no_image_file(folder_of, path):
    folder = folder_of({"image": [path] * 6, "label": LABELS})
    os.mkfifo(folder / "pipe")
    refused(["train.parquet, row 0, ", "cannot read the image (", "replace or remove it"], folder)


@pytest.mark.parametrize("twice", ["image", "label"])
def test_a_column_that_is_there_twice_is_not_guessed(folder_of, twice):
    names = ["image", "label", twice]
    arrays = [STRUCTS if name == "image" else LABELS for name in names]
    folder = folder_of(pa.table(arrays, names=names))
    refused([f"column '{twice}' holds what is there twice"], folder)
    if twice == "label":
        refused(["column 'label' holds what is there twice"], folder, tasks={"kind": "label"})


def test_other_columns_may_be_there_twice(folder_of):
    folder = folder_of(pa.table([STRUCTS, LABELS, LABELS, LABELS], names=["image", "label", "", ""]))
    assert open_data(folder, val_fraction=0).num_classes == 3


def test_a_table_of_very_many_columns_is_not_listed(folder_of):
    folder = folder_of({f"column number {i}": [i] * 6 for i in range(2000)})
    refused(["no column of images among column number 0", "..."], folder)


@pytest.mark.parametrize("role", ["image", "label"])
@pytest.mark.parametrize("name", ["x" * 100_000, "\0", "a\nb", "\ud800"], ids=short)
def test_names_of_columns_are_shown_in_one_short_line(folder_of, role, name):
    refused(
        ["no column '", "among image, label"], folder_of({"image": STRUCTS, "label": LABELS}), **{role: name}
    )


def test_texts_that_are_no_unicode(folder_of):
    words = pa.StringArray.from_buffers(
        6, pa.py_buffer(np.arange(7, dtype=np.int32).tobytes()), pa.py_buffer(b"\xff" * 6)
    )
    refused([".parquet: column 'label' is damaged ("], folder_of({"image": STRUCTS, "label": words}))


def with_rows(file, rows):
    """The file says that it has another number of rows: one varint of its footer, and the footer's length."""
    content = file.read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - length : -8]
    assert footer.count(b"\x16\x0c\x19\x1c") == 1  # number of rows (6, zigzag), row groups
    zigzag, varint = 2 * rows if rows >= 0 else -2 * rows - 1, []
    while zigzag > 127:
        varint.append(zigzag % 128 + 128)
        zigzag //= 128
    footer = footer.replace(b"\x16\x0c\x19\x1c", b"\x16" + bytes([*varint, zigzag]) + b"\x19\x1c")
    file.write_bytes(content[: -8 - length] + footer + len(footer).to_bytes(4, "little") + content[-4:])


@pytest.mark.parametrize("rows", [2**40, 2**62, -1, 7, 5], ids=short)
def test_a_file_that_says_another_number_of_rows(folder_of, rows):
    folder = folder_of({"image": STRUCTS, "label": LABELS})
    with_rows(folder / "train.parquet", rows)
    refused([folder / "train.parquet", "rows", "fetch or make it again"], folder)


def test_a_file_that_changes_after_it_is_opened(folder_of):
    folder = folder_of({"image": STRUCTS, "label": LABELS})
    data = open_data(folder, val_fraction=0)
    parquet.write_table(pa.table({"image": STRUCTS[:2], "label": LABELS[:2]}), folder / "test.parquet")
    refused(["test.parquet is not as it was when it was opened", "2 rows of 6"], use=lambda: data.test)
    (folder / "test.parquet").unlink()
    refused(["test.parquet is not a whole parquet file ("], use=lambda: data.test)


def test_a_shard_that_is_no_file(folder_of):
    folder = folder_of({"image": STRUCTS, "label": LABELS})
    (folder / "train.parquet").unlink()
    os.mkfifo(folder / "train-00000-of-00001.parquet")
    refused(["train-00000-of-00001.parquet is no file"], folder)


@pytest.mark.parametrize("classes", [2**31, 10**20, 0, -5], ids=short)
def test_a_number_of_classes_that_nobody_has(folder_of, classes):
    refused(
        ["classes=", "must be 1 to 10,000,000"],
        folder_of({"image": STRUCTS, "label": LABELS}),
        classes=classes,
    )


@pytest.mark.parametrize("label", [2**31, 2**63 - 1, 1000], ids=short)
def test_a_large_label_makes_one_class_and_is_told(folder_of, label):
    folder = folder_of({"image": STRUCTS, "label": [0, 1, label] * 2})
    note = f"the labels are not 0 ... 2 but 0, 1, {label}: 3 classes"
    for settings in ({}, {"tasks": {"label": "label"}}):
        data = open_data(folder, val_fraction=0, **settings)
        assert data.classes == ("0", "1", str(label)) and note in data.notes[0]


@pytest.mark.parametrize("label", [2**64, -(2**70), 10**400, 10**5000, 1e300], ids=short)
def test_a_label_beyond_every_column_is_refused(label):
    refused(["sample 2: the label is", "beyond 64 bits"], (noise(4), [0, 1, label, 1]), val_fraction=0)


def test_many_labels_are_asked_about_before_their_numbers_are_names(monkeypatch):
    monkeypatch.setattr("offramp.data._decide_classes.MANY", 4)
    labels = [*range(5), 2**40]
    refused(["6 different labels", "number them 0 ... 5", "`classes=6`"], (noise(6), labels), val_fraction=0)


@pytest.mark.parametrize("number", [1e308, 1e39, -1e39, 10**400], ids=short)
def test_numbers_beyond_32_bits_are_no_values(number):
    samples = [(image, {"value": 0.5 if i else number}) for i, image in enumerate(noise(4))]
    refused(
        ["sample 0, 'value' is ", "beyond what 32 bits hold"],
        samples,
        val_fraction=0,
        tasks="value:value:values",
    )


def masks(*classes):
    return [
        (image, {"map": np.full((8, 8), of)}) for image, of in zip(noise(len(classes)), classes, strict=True)
    ]


@pytest.mark.parametrize("label", [2**31, 2**62, 100_000], ids=short)
def test_a_mask_of_one_large_class_is_refused_before_there_are_names_for_all(label):
    refused(
        ["sample 2, 'map' has pixels of class", "write -1"], masks(0, 1, label, 1), val_fraction=0,
        tasks="map:map:segmentation",
    )  # fmt: skip


def test_a_mask_that_marks_unknown_pixels_by_255_is_asked_about():
    line = refused(
        ["has pixels of class 255, and most numbers below it are nowhere (3 classes are)", "`classes=256`"],
        masks(0, 1, 255, 1), val_fraction=0, tasks="map:map:segmentation",
    )  # fmt: skip
    assert "write -1" in line
    data = open_data(masks(0, 1, 255, 1), val_fraction=0, tasks="map:map:segmentation", classes=256)
    assert data.targets["map"].size == 256
    assert open_data(masks(0, 3, 1, 0), val_fraction=0, tasks="map:map:segmentation").targets["map"].size == 4


def test_a_mask_of_the_smallest_number_has_no_class_there():
    data = open_data(masks(0, 1, -(2**63)), val_fraction=0, tasks="map:map:segmentation")
    assert data.targets["map"].size == 2


def test_unsigned_numbers_do_not_turn_into_none():
    samples = masks(0, 1)
    samples[1][1]["map"] = np.full((8, 8), 2**64 - 1, np.uint64)
    refused(["sample 1, 'map'", "beyond 63 bits"], samples, val_fraction=0, tasks="map:map:segmentation")


@pytest.mark.parametrize("classes", ["abc", (1, 2), 3, ["a", None]], ids=short)
def test_a_target_has_classes_that_are_words(classes):
    refused(["classes of a target are", "must be a tuple of words"], "class", classes, use=Target)


def test_torchvision_like_names_are_text():
    class Named(torch.utils.data.Dataset):
        classes = (("tench", "Tinca tinca"), ("crane",))
        targets = (0, 1)

        def __len__(self):
            return 2

        def __getitem__(self, row):
            return noise(2)[row], row

    assert open_data(Named(), val_fraction=0).classes == ("('tench', 'Tinca tinca')", "('crane',)")
    Named.classes = (None, "b")
    refused(["class 0 is called None"], Named(), val_fraction=0)
