"""Python objects and files of lines that are no data sets: one line that names the sample."""

from __future__ import annotations

import pytest
import torch
from small_sets import noise, png, refused

from offramp.data import open_data
from offramp.errors import shown

N = 12
IMAGES = list(noise(N))
LABELS = [i % 3 for i in range(N)]
META = torch.tensor(1, device="meta")


class Samples(torch.utils.data.Dataset):
    def __init__(self, samples, length=N):
        self.samples, self.length = samples, length

    def __len__(self):
        return self.length

    def __getitem__(self, row):
        return self.samples[row]


class Stream(torch.utils.data.IterableDataset):
    def __init__(self, samples):
        self.samples = samples

    def __iter__(self):
        return iter(self.samples)


def short(value):
    return shown(value, 30)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            Samples([], length=-1),
            "Samples does not say how many samples it has (__len__() should return >= 0)",
        ),
        (Samples([]), "sample 0: the data set does not give it (IndexError"),
        (
            Samples([(image, 0) for image in IMAGES], length=10**12),
            "the data set does not give it (IndexError",
        ),
        ({1, 2}, "set, sample 0: an int; make it a pair (image, label)"),
        (Stream(IMAGES), "sample 0: an ndarray; make it a pair"),
        ((IMAGES, {}), "tuple: targets []; give them by names"),
        ((IMAGES, {3: LABELS}), "tuple: targets [3]; give them by names"),
        ((IMAGES, {"a": 3}), "tuple: 'a' is an int; give a target for each image"),
        ((IMAGES, {"a": None}), "tuple: 'a' is a NoneType; give a target for each image"),
        ((IMAGES, {"a": LABELS[:5]}), "tuple: 12 images and 5 of 'a'"),
        (
            [(image, {"a\0": i % 2}) for i, image in enumerate(IMAGES)],
            r"a target is called 'a\x00', which has",
        ),
        (
            [(image, {"a" * 999: i % 2}) for i, image in enumerate(IMAGES)],
            "a target has a name of more than 255",
        ),
        ([(image, META) for image in IMAGES], "sample 0: the label is a Tensor on the device meta"),
        ([(image, [[1], [1, 2]]) for image in IMAGES], "sample 0: the label is several labels at once"),
        (
            [(image, 10**5000) for image in IMAGES],
            "the label is <a number of 16610 bits>, a number beyond 64",
        ),
        ([(image, "a\ud800") for image in IMAGES], r"label 0 is called 'a\ud800', which has characters"),
        ([(torch.zeros(3, 8, 8).to_sparse(), 0)] * N, "sample 0: cannot read the image ("),
        (Stream([(torch.zeros(3, 8, 8).to_sparse(), 0)] * N), "sample 0: cannot read the image ("),
        ([(torch.zeros(3, 8, 8, device="meta"), 0)] * N, "sample 0: cannot read the image ("),
    ],
    ids=range(19),
)
def test_objects_that_are_no_data_set(data, words):
    refused([words], data, val_fraction=0)


@pytest.mark.parametrize("kind", ["class", "labels", "values", "box", "segmentation", "depth", "normals", ""])
@pytest.mark.parametrize("value", [META, 10**5000, 1j, object(), {1}, "\ud800", 1e308], ids=range(7))
def test_a_target_of_any_kind_that_is_none_names_its_sample(kind, value):
    samples = [(image, {"t": value if i == 7 else None}) for i, image in enumerate(IMAGES)]
    number = 0 if kind == "" and isinstance(value, float) else 7  # its kind is asked for, of the whole column
    refused([f"list, sample {number}"], samples, val_fraction=0, tasks=f"t:t:{kind}".rstrip(":"))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (b"null\n", "train.jsonl, line 1 is no JSON object"),
        (b'{"image": "0.png", "label": 1}\n[1]\n', "line 2 is no JSON object"),
        (
            b'{"image": "0.png", "label": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}\n",
            "nested without end",
        ),
        (b'{"image": "0.png", "label": ' + b"[" * 99 + b"\n", "cannot be read ("),
        (b"", "cannot be read ("),
        (b'{"image": "0.png", "label": 1, "label": 2}\n', "cannot be read ("),
        (b'{"image": "0.png", "label": "\\ud800"}\n', "cannot be read ("),
    ],
    ids=range(7),
)
def test_lines_that_are_no_rows(tmp_path, lines, words):
    """Two of them crash the reader of pyarrow 22."""
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_bytes(lines)
    refused([words.replace("train.", "")], tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read ("),
        (b"image,label\n", "has no rows"),
        (b"im\xe9ge,label,image\nx,a,0.png\n", "the name of a column is no text ("),
        (b"image,label,label\n0.png,a,a\n", "column 'label' holds what is there twice"),
        (b"image,label\n0.png,\n1.png,\n", "no test split with labels"),
        (b"image,label\n/dev/zero,a\n1.png,b\n", "cannot read the image (it is a device, not a file)"),
        (b"\xff\xfe" * 100, "test.csv"),
    ],
    ids=range(7),
)
def test_tables_of_text_that_are_none(tmp_path, content, words):
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_bytes(content)
    (tmp_path / "0.png").write_bytes(png(IMAGES[0]))
    refused([words], tmp_path, val_fraction=0)


def test_fifty_brackets_in_a_text_are_no_nesting(tmp_path):
    row = '{"text": "' + "[{" * 500 + '", "label": "a", "image": "0.png"}\n'
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(row * 3)
    (tmp_path / "0.png").write_bytes(png(IMAGES[0]))
    assert len(open_data(tmp_path, val_fraction=0).train) == 3
