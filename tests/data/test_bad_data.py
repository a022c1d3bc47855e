"""Everything a user's data can have wrong: one line that names the culprit and the remedy."""

from __future__ import annotations

import pyarrow as pa
import pytest
from pyarrow import parquet
from small_sets import noise, png, refused, write_parquet

from offramp.data import open_data

IMAGES = [png(p) for p in noise(6)]
LABELS = [0, 1, 2, 0, 1, 2]


def test_missing_path(tmp_path):
    refused(["no such folder: ", tmp_path / "nope", "give one with"], tmp_path / "nope")
    refused(["no such folder: './nope/here'; give one"], "./nope/here")


def test_a_mistyped_folder_is_not_looked_for_on_the_hub(parquet_folder, monkeypatch):
    monkeypatch.chdir(parquet_folder.parent)
    refused(["no such folder: ", "/tarin'; give one with"], f"{parquet_folder.name}/tarin")


def test_unknown_name():
    refused(["no data set 'digit'", "did you mean 'digits'?", "uoft-cs/cifar100"], "digit")
    refused(["no data set 'mnist'; give 'digits', 'rooms', a folder"], "mnist")


def test_a_file_for_a_folder(parquet_folder):
    refused(["train.parquet is a file, not a folder; give the folder"], parquet_folder / "train.parquet")


def test_a_folder_without_data(tmp_path):
    refused([tmp_path, "has neither train.parquet nor train/<class>/; give another folder"], tmp_path)
    (tmp_path / "cat").mkdir()
    refused([tmp_path, "train/<class>/; move its folders of classes into train/, or give another"], tmp_path)


@pytest.mark.parametrize("part", [0, 0.5, 0.99])
@pytest.mark.parametrize("split", ["train", "test"])
def test_empty_or_truncated_parquet(parquet_folder, split, part):
    """A test file cut short is found at once, not after the training."""
    file = parquet_folder / f"{split}.parquet"
    content = file.read_bytes()
    file.write_bytes(content[: int(part * len(content))])
    refused([file, "is not a whole parquet file", "fetch or make it again"], parquet_folder)


def test_damaged_pages(parquet_folder):
    file = parquet_folder / "train.parquet"
    content = bytearray(file.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    file.write_bytes(content)
    refused([file, "is not a whole parquet file"], parquet_folder)


def test_no_rows(parquet_folder):
    write_parquet(parquet_folder / "train.parquet", [], [])
    refused([parquet_folder / "train.parquet", "has no rows"], parquet_folder)


@pytest.mark.parametrize("content", [b"", b"no image", IMAGES[0][:50], IMAGES[0][:-40]])
def test_undecodable_image(parquet_folder, content):
    images = [*IMAGES[:4], content, IMAGES[5]]
    file = write_parquet(parquet_folder / "train.parquet", images, LABELS)
    refused([f"{file}, row 4: cannot decode the image (", "replace or remove it"], parquet_folder)


def test_the_row_is_named_in_its_own_file(tmp_path):
    for shard, images in enumerate((IMAGES, [*IMAGES[:2], b"no image", *IMAGES[3:]])):
        write_parquet(tmp_path / f"train-0000{shard}-of-00002.parquet", images, LABELS)
    write_parquet(tmp_path / "test.parquet", IMAGES, LABELS)
    refused([tmp_path / "train-00001-of-00002.parquet", ", row 2: cannot decode"], tmp_path)


def test_missing_image(parquet_folder):
    write_parquet(parquet_folder / "train.parquet", [*IMAGES[:5], None], LABELS)
    refused(["row 5: no image ('image' is null)"], parquet_folder)


def test_missing_shard(tmp_path):
    write_parquet(tmp_path / "train-00000-of-00003.parquet", IMAGES, LABELS)
    refused(["has 1 of 3 files train-*.parquet; fetch the rest"], tmp_path)


def test_shards_that_differ(tmp_path):
    write_parquet(tmp_path / "train-00000-of-00002.parquet", IMAGES, LABELS)
    write_parquet(tmp_path / "train-00001-of-00002.parquet", IMAGES, LABELS, label_column="other")
    refused([tmp_path / "train-00001-of-00002.parquet", "has other columns than train-00000"], tmp_path)


def test_several_sets_in_one_folder(tmp_path):
    for name in "ab":
        write_parquet(tmp_path / name / "train.parquet", IMAGES, LABELS)
    refused([tmp_path, "holds several data sets", tmp_path / "a", "give one of these"], tmp_path)


@pytest.mark.parametrize(
    ("label", "reason"),
    [(3, "is none of ['cat', 'dog', 'emu']"), (-1, "means that there is none"), (1000, "is none of")],
)
def test_label_out_of_range(parquet_folder, label, reason):
    file = write_parquet(parquet_folder / "train.parquet", IMAGES, [*LABELS[:3], label, 1, 2])
    refused(
        [f"{file}, row 3: label {label} {reason}", "(1 such rows)", f"`ignore_label={label}`"], parquet_folder
    )


def test_label_missing(parquet_folder):
    file = write_parquet(parquet_folder / "train.parquet", IMAGES, [0, None, 2, 0, 1, 2])
    refused([f"{file}, row 1: no label; label or remove the row"], parquet_folder)


def test_columns_missing(parquet_folder):
    write_parquet(parquet_folder / "train.parquet", IMAGES, LABELS, names=None, label_column="kind")
    refused(["no column of labels among image, kind; choose it by `label=...`"], parquet_folder)
    parquet.write_table(pa.table({"label": LABELS, "text": ["a"] * 6}), parquet_folder / "train.parquet")
    refused(["no column of images among label, text; choose it by `image=...`"], parquet_folder)


def test_images_of_mixed_sizes(parquet_folder, image_folder):
    odd = [*IMAGES[:3], png(noise(1, size=(8, 9))[0]), *IMAGES[4:]]
    file = write_parquet(parquet_folder / "train.parquet", odd, LABELS)
    refused([f"{file}, row 3: 9x8 pixels where others have 8x8", "`size=224`"], parquet_folder)


def test_test_images_of_another_size(parquet_folder):
    write_parquet(parquet_folder / "test.parquet", [png(p) for p in noise(3, size=(4, 8))], [0, 1, 2])
    data = open_data(parquet_folder)
    refused(["the training images are 8x8, the test images 8x4"], use=lambda: data.test)


def test_missing_test_split(parquet_folder, image_folder):
    (parquet_folder / "test.parquet").unlink()
    refused([parquet_folder, "has no test split; add one, e.g. test.parquet"], parquet_folder)


def test_missing_test_folder(image_folder):
    folder = image_folder({"train": 3})
    refused([folder, "has no test split; add", "test/<class>/"], folder)


def test_test_split_without_labels(parquet_folder):
    file = write_parquet(parquet_folder / "test.parquet", IMAGES, [-1] * 6)
    refused(["has no test split with labels (", file, "row 0 and on: none)"], parquet_folder)


def test_empty_class_folder(image_folder):
    folder = image_folder({"train": 3, "test": 1})
    (folder / "train" / "bird").mkdir()
    refused([folder / "train" / "bird", "holds no images; fill or remove"], folder)


def test_class_that_only_the_test_set_has(image_folder):
    folder = image_folder({"train": 3, "test": 1})
    (folder / "test" / "dog").rename(folder / "test" / "wolf")
    refused([folder / "test" / "wolf" / "0.png", "label 'wolf' is none of ['cat', 'dog']"], folder)


def test_no_class_folders(image_folder, tmp_path):
    image_folder({"test": 1})
    (tmp_path / "train").mkdir()
    refused(["train has no class folders; put its images into train/<class>/"], tmp_path)


def test_damaged_file_in_an_image_folder(image_folder):
    folder = image_folder({"train": 3, "test": 1})
    (folder / "train" / "dog" / "1.png").write_bytes(b"\xff\xd8 not really")
    refused([folder / "train" / "dog" / "1.png", ": cannot decode the image"], folder)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.mkdir(), "it is a folder, not a file"),
        (lambda path: path.symlink_to("gone.png"), "No such file"),
    ],
    ids=["folder", "dangling link"],
)
def test_what_is_no_file_in_an_image_folder(image_folder, make, reason):
    folder = image_folder({"train": 3, "test": 1})
    make(folder / "train" / "dog" / "x.png")
    refused([folder / "train" / "dog" / "x.png", f": cannot read the image ({reason}"], folder)


@pytest.mark.parametrize("name", ["train_limit", "test_limit"])
@pytest.mark.parametrize("limit", [0, -3, 1000])
def test_limits_out_of_range(parquet_folder, name, limit):
    count = 30 if name == "train_limit" else 9
    refused([f"{name}={limit} must be 1 to {count}"], parquet_folder, **{name: limit})


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan")])
def test_val_fraction_out_of_range(fraction):
    refused(["val_fraction", str(fraction), "at least 0 and below 1"], "digits", val_fraction=fraction)


def test_validation_that_leaves_nothing_to_train_on(parquet_folder):
    refused(["val_fraction=0.1 leaves none of 1 samples"], parquet_folder, train_limit=1)


def test_other_numbers_out_of_range(parquet_folder):
    refused(["seed=-1 must be at least 0"], parquet_folder, seed=-1)
    refused(["size=0 must be at least 1 pixel"], parquet_folder, size=0)


def test_a_missing_package(parquet_folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    refused(["needs pyarrow.parquet: pip install 'offramp[data]'"], parquet_folder)
