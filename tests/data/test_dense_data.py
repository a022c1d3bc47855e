"""Sets with a target for every pixel: rooms, and NYUv2 as folders of arrays and as a table."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from offramp import UserError
from offramp.data import (
    DenseStream,
    Split,
    _dense_opening,
    dense_stream,
    open_data,
    open_other,
    pipeline,
)
from offramp.data.rooms import CLASSES, random_scene, render

MAPS = {"segmentation": "label", "depth": "depth", "normals": "normal"}
TINY = "rooms:images=12,test=3,height=16,width=24"


@pytest.mark.parametrize("text", ["rooms:test=3,height=16,width=24,seed=5,images=12", f"{TINY},seed=5"])
def test_rooms_are_rendered_by_split_and_number(text):
    data = open_data(text, val_fraction=0)
    assert (data.source, data.name) == (text, f"{TINY},seed=5")
    assert [(len(s), type(s)) for s in (data.train, data.val, data.test)] == [
        (12, Split),
        (0, Split),
        (3, Split),
    ]
    for split, number in ((data.train, 0), (data.test, 1)):
        for row in range(3):
            image, *maps = render(random_scene(5, number, row), 16, 24)
            assert torch.equal(split.images[row], image)
            assert all(torch.equal(split.targets[key][row], m) for key, m in zip(MAPS, maps, strict=True))


def test_a_room_does_not_depend_on_how_many_there_are():
    few, many = (open_data(f"rooms:images={n},test=1,height=12,width=16", val_fraction=0) for n in (3, 9))
    assert torch.equal(few.train.images, many.train.images[:3])


def test_several_processes_read_the_same_as_one(monkeypatch):
    text = "rooms:images=40,test=1,height=12,width=16"
    one = open_data(text).train
    monkeypatch.setattr(dense_stream, "FEW", 20)
    monkeypatch.setattr(dense_stream, "num_workers", lambda: 2)
    several = open_data(text).train
    assert torch.equal(one.images, several.images)
    assert all(torch.equal(one.targets[key], several.targets[key]) for key in MAPS)


def test_rooms_by_default():
    """Its options are told by its name; what they are by default is told by no more than `rooms`."""
    from offramp.data._room_rows import RoomOptions

    assert str(RoomOptions.of("rooms")) == "rooms" == str(RoomOptions.of("rooms:images=400,height=96"))
    assert RoomOptions.of("rooms") == RoomOptions(images=400, test=100, height=96, width=128, seed=0)


def test_what_rooms_are_labelled_with():
    data = open_data(TINY)
    assert {key: target.kind for key, target in data.targets.items()} == {key: key for key in MAPS}
    assert data.targets["segmentation"].classes == CLASSES
    assert data.input_size == (3, 16, 24) and (len(data.train), len(data.val)) == (11, 1)
    with pytest.raises(
        UserError, match="has no target 'label'; its targets are segmentation, depth, normals"
    ):
        data.classes  # noqa: B018


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("rooms:", "rooms has no option ''; there are images, test, height, width, seed"),
        ("rooms:size=4", "rooms has no option 'size'"),
        ("rooms:imges=4", "rooms has no option 'imges' .did you mean 'images'"),
        ("rooms:images", "images= must be a whole number from 1 to 1000000"),
        ("rooms:images=0", "images=0 must be a whole number from 1 to 1000000"),
        ("rooms:seed=-1", "seed=-1 must be a whole number from 0 to"),
        ("rooms:height=9.5", "height=9.5 must be a whole number from 8 to 4096"),
        ("rooms:width=7", "width=7 must be a whole number from 8 to 4096"),
        ("rooms:images=1" + 30 * "0", "must be a whole number from 1 to 1000000"),
        ("rooms:seed=1,seed=2", "gives seed twice"),
        ("room", "no data set 'room' .did you mean 'rooms'"),
    ],
)
def test_options_that_rooms_has_not(text, line):
    with pytest.raises(UserError, match=line):
        open_data(text)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"size": 32}, "leave `size=32` out"),
        ({"classes": 4}, "leave `classes=4` out"),
        ({"ignore_label": 3}, "leave `ignore_label=3` out"),
        ({"label": "depth"}, "rooms has no columns to choose from; leave `label='depth'` out"),
        ({"tasks": {"far": "depth"}}, "leave .tasks="),
        ({"tasks": {"depth": "depth"}}, "leave `tasks="),
        ({"channels": 1}, "images of 3 channels, not 1"),
        ({"train_limit": 13}, "train_limit=13 must be 1 to 12"),
        ({"val_fraction": 0.99}, "leaves none of 12 samples"),
    ],
)
def test_settings_that_rooms_do_not_take(settings, line):
    with pytest.raises(UserError, match=line):
        open_data(TINY, **settings)


def arrays(number, *, height=6, width=8):
    """A sample as NYUv2 is stored: floats, channels behind."""
    draws = np.random.default_rng(number)
    normal = draws.normal(size=(height, width, 3))
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    normal[0, 0] = 0
    label = draws.integers(-1, 13, (height, width)).astype(np.float64)
    label[0, 1] = 12
    return {
        "image": draws.random((height, width, 3)),
        "label": label,
        "depth": np.where(label[..., None] < 0, 0, draws.random((height, width, 1)) + 1),
        "normal": normal,
    }


def write(folder, number, **changed):
    """Write a sample into the folder of a split."""
    for name, array in (arrays(number) | changed).items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        np.save(folder / name / f"{number}.npy", array)


@pytest.fixture
def nyuv2(tmp_path):
    """A folder in the layout of MTAN: 12 training and 3 test samples of 6x8."""
    for split, count in (("train", 12), ("val", 3)):
        for number in range(count):
            write(tmp_path / split, number)
    return tmp_path


def assert_samples(split, numbers):
    """The samples of a split in memory are those that were written, under these numbers."""
    assert len(split) == len(numbers)
    for row, number in enumerate(numbers):
        stored = {key: torch.from_numpy(array) for key, array in arrays(number).items()}
        assert torch.equal(split.images[row], stored["image"].permute(2, 0, 1).float())
        assert torch.equal(split.targets["segmentation"][row], stored["label"].long())
        assert torch.equal(split.targets["depth"][row], stored["depth"].permute(2, 0, 1).float())
        assert torch.equal(split.targets["normals"][row], stored["normal"].permute(2, 0, 1).float())


def test_nyuv2_as_mtan_lays_it_out(nyuv2):
    """Numbers count as numbers: 10 comes behind 9. The validation folder is the test set."""
    data = open_data(nyuv2, val_fraction=0)
    assert data.name == nyuv2.name and data.input_size == (3, 6, 8)
    assert_samples(data.train, range(12))
    assert_samples(data.test, range(3))
    assert not len(data.val) and data.train.images.dtype == torch.float32


def test_validation_samples_come_from_the_training_folder(nyuv2):
    data = open_data(nyuv2, val_fraction=0.25, seed=1)
    assert (len(data.train), len(data.val), len(data.test)) == (9, 3, 3)
    whole = open_data(nyuv2, val_fraction=0).train.images
    found = [
        (whole == image).flatten(1).all(1).nonzero().item()
        for s in (data.train, data.val)
        for image in s.images
    ]
    assert sorted(found) == list(range(12))
    again = open_data(nyuv2, val_fraction=0.25, seed=1)
    assert torch.equal(again.val.images, data.val.images)


def test_a_set_too_large_for_memory_streams(nyuv2, monkeypatch):
    """Batches are those of the set in memory, whoever reads them; statistics as well."""
    here = open_data(nyuv2)
    monkeypatch.setattr(_dense_opening, "MAX_BYTES", 100)
    data = open_data(nyuv2)
    assert all(isinstance(split, DenseStream) for split in (data.train, data.val, data.test))
    assert data.statistics == here.statistics
    for workers in (0, 2):
        data.train.workers = workers
        batches = [
            list(d.train.batches(4, transform=pipeline(None, d)[0], device="cpu", shuffle=True, epoch=2))
            for d in (data, here)
        ]
        assert len(batches[0]) == len(batches[1]) == 3
        for streamed, kept in zip(*batches, strict=True):
            assert (
                torch.equal(streamed.inputs, kept.inputs) and streamed.targets.keys() == kept.targets.keys()
            )
            assert all(torch.equal(streamed.targets[key], kept.targets[key]) for key in MAPS)


def test_a_target_that_no_sample_of_a_batch_has_is_not_in_it(nyuv2, monkeypatch):
    for number in range(11):
        write(nyuv2 / "train", number, depth=np.zeros((6, 8, 1)))
    for limit in (2**30, 100):
        monkeypatch.setattr(_dense_opening, "MAX_BYTES", limit)
        data = open_data(nyuv2, val_fraction=0)
        batches = list(data.train.batches(6, transform=pipeline("none", data)[1], device="cpu"))
        assert ["depth" in batch.targets for batch in batches] == [False, True]


def test_ranks_without_samples_get_an_empty_batch(nyuv2, monkeypatch):
    monkeypatch.setattr(_dense_opening, "MAX_BYTES", 100)
    data = open_data(nyuv2, val_fraction=0, train_limit=1)
    data.train.workers = 0
    batch = next(data.train.batches(1, transform=pipeline("none", data)[1], device="cpu", rank=1, world=2))
    assert batch.inputs.shape == (0, 3, 6, 8) and not batch.targets


BAD_ARRAYS = {
    "depth holds values that are not finite; write 0 where there is none": {
        "depth": np.full((6, 8, 1), np.nan)
    },
    "image holds values that are not finite": {"image": np.full((6, 8, 3), np.inf)},
    "image values up to 255 as float64; store levels 0 ... 255 as uint8, or divide them by 255": {
        "image": np.full((6, 8, 3), 255.0)
    },
    "image values up to 200 as int64": {"image": np.full((6, 8, 3), 200)},
    "segmentation holds values that are not finite; write -1": {"label": np.full((6, 8), np.nan)},
    "normals holds values that are not finite": {"normal": np.full((6, 8, 3), np.nan)},
    "depth of -1 m; write 0 where there is none": {"depth": -np.ones((6, 8, 1))},
    "label 13, and the classes are 0 ... 12; write -1": {"label": np.full((6, 8), 13)},
    "label 255, and the classes are 0 ... 12": {"label": np.full((6, 8), 255, np.uint8)},
    "labels that are no whole numbers": {"label": np.full((6, 8), 0.5)},
    "normals of length 2; divide each by its length": {"normal": np.full((6, 8, 3), 2 / 3**0.5)},
    "normals of length 0.5; divide each": {"normal": np.full((6, 8, 3), 0.5 / 3**0.5)},
    "depth of 8x3 pixels, and the image has 8x6": {"depth": np.ones((3, 8, 1))},
    r"an array of shape \[6, 8\]; give \[3, height, width\]": {"image": np.ones((6, 8))},
    "an array of <U1, no numbers": {"label": np.full((6, 8), "a")},
    "8x4 pixels where others have 8x6; give all samples one size": arrays(0, height=4),
    "uint8 where others are float32; make them alike": {"image": np.ones((6, 8, 3), np.uint8)},
}


@pytest.mark.parametrize("line", BAD_ARRAYS)
@pytest.mark.parametrize("workers", [None, 0])
def test_damaged_samples_are_named(nyuv2, monkeypatch, line, workers):
    """At the opening of a set in memory; of one that streams, when it is read."""
    write(nyuv2 / "train", 7, **BAD_ARRAYS[line])
    if workers is not None:
        monkeypatch.setattr(_dense_opening, "MAX_BYTES", 100)
    with pytest.raises(UserError, match=line) as caught:
        data = open_data(nyuv2, val_fraction=0)
        data.train.workers = workers
        list(data.train.batches(4, transform=pipeline("none", data)[1], device="cpu"))
    assert "/train/" in str(caught.value) and "/7.npy" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"no array", b"PK\x03\x04 no archive", "cut short", "archive", "objects"]
)
def test_a_file_that_is_no_array(nyuv2, content):
    file = nyuv2 / "train" / "depth" / "4.npy"
    if content == "archive":
        np.savez(file.with_suffix(".npz"), np.ones(3))
        file.with_suffix(".npz").rename(file)
    elif content == "objects":
        np.save(file, np.array([{}, None]), allow_pickle=True)
    else:
        file.write_bytes(file.read_bytes()[:150] if content == "cut short" else content)
    with pytest.raises(UserError, match=r"depth/4.npy: cannot read it"):
        open_data(nyuv2)


@pytest.mark.parametrize(("key", "name"), MAPS.items())
@pytest.mark.parametrize("split", ["train", "val"])
def test_targets_that_no_sample_has(nyuv2, key, name, split):
    fill = -1.0 if key == "segmentation" else 0.0
    for file in (nyuv2 / split / name).iterdir():
        np.save(file, np.full_like(np.load(file), fill))
    count = {"train": 12, "val": 3}[split]
    with pytest.raises(UserError, match=rf"in the {count} samples from .*0.npy to .*{count - 1}.npy; "):
        open_data(nyuv2, val_fraction=0).test  # noqa: B018


def test_missing_folders_and_files(nyuv2, tmp_path):
    (nyuv2 / "train" / "depth" / "3.npy").unlink()
    with pytest.raises(UserError, match=r"depth/3.npy is missing .1 of 12 files there.; add it, or remove"):
        open_data(nyuv2)
    write(nyuv2 / "train", 3)
    (nyuv2 / "val" / "normal").rename(nyuv2 / "val" / "normals")
    with pytest.raises(
        UserError, match=r"val has no normal/\*.npy; NYUv2 has image/, label/, depth/ and normal/"
    ):
        open_data(nyuv2)
    (nyuv2 / "val").rename(nyuv2 / "other")
    with pytest.raises(UserError, match="has no test split; add one, as val/ or test/ beside train/"):
        open_data(nyuv2)
    (nyuv2 / "train" / "image").rename(nyuv2 / "train" / "rgb")
    with pytest.raises(UserError, match=r"train has no image/\*.npy"):
        open_data(nyuv2)


def test_a_third_folder_is_the_validation_split(nyuv2):
    for number in range(2):
        write(nyuv2 / "test", number)
    data = open_data(nyuv2)
    assert [len(split) for split in (data.train, data.val, data.test)] == [12, 3, 2]
    held = open_data(nyuv2, val_split=False, val_fraction=0.5)
    assert [len(split) for split in (held.train, held.val, held.test)] == [6, 6, 2]


def test_test_images_of_another_size(nyuv2):
    for number in range(3):
        write(nyuv2 / "val", number, **arrays(number, height=4))
    with pytest.raises(
        UserError, match=r"the training images are 8x6, the test images 8x4; give all one size"
    ):
        open_data(nyuv2).test  # noqa: B018


def test_another_set_to_evaluate_on(nyuv2):
    assert len(open_other(nyuv2, open_data(TINY).targets).test) == 3


@pytest.fixture
def table(tmp_path):
    """NYUv2 as tanganke/nyuv2 has it on the hub: arrays with channels in front, in shards."""
    datasets = pytest.importorskip("datasets")
    shapes = {
        "image": (3, 6, 8),
        "segmentation": (6, 8),
        "depth": (1, 6, 8),
        "normal": (3, 6, 8),
        "noise": (1, 6, 8),
    }
    features = datasets.Features(
        {
            name: (datasets.Array2D if len(shape) == 2 else datasets.Array3D)(
                shape, "int64" if name == "segmentation" else "float32"
            )
            for name, shape in shapes.items()
        }
    )
    (tmp_path / "nyuv2" / "data").mkdir(parents=True)
    for split, count in (("train", 5), ("val", 3)):
        samples = [arrays(number) for number in range(count)]
        columns = {
            "image": [sample["image"].transpose(2, 0, 1) for sample in samples],
            "segmentation": [sample["label"].astype(np.int64) for sample in samples],
            "depth": [sample["depth"].transpose(2, 0, 1) for sample in samples],
            "normal": [sample["normal"].transpose(2, 0, 1) for sample in samples],
            "noise": [np.zeros((1, 6, 8))] * count,
        }
        data = datasets.Dataset.from_dict(columns, features=features)
        data.to_parquet(tmp_path / "nyuv2" / "data" / f"{split}-00000-of-00001.parquet")
    return tmp_path / "nyuv2"


quiet = pytest.mark.filterwarnings("default")  # of libraries below


@quiet
def test_nyuv2_as_a_folder_of_parquet_files(table):
    data = open_data(table, val_fraction=0)
    assert_samples(data.train, range(5))
    assert_samples(data.test, range(3))


@quiet
def test_nyuv2_by_its_name_on_the_hub(table, monkeypatch, tmp_path):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    load = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda name: load(str(table)))
    data = open_data("tanganke/nyuv2", val_fraction=0.4)
    assert data.name == "nyuv2" and (len(data.train), len(data.val)) == (3, 2)
    assert_samples(data.test, range(3))


@quiet
def test_a_null_in_a_table_of_maps(table):
    from pyarrow import parquet

    file = table / "data" / "val-00000-of-00001.parquet"
    stored = parquet.read_table(file)
    depth = stored.column("depth").to_pylist()
    depth[1] = None
    place = stored.schema.get_field_index("depth")
    parquet.write_table(stored.set_column(place, "depth", [depth]), file)
    with pytest.raises(UserError, match=r"val-00000-of-00001.parquet, row 1, column 'depth': null"):
        open_data(table, val_fraction=0).test  # noqa: B018


@quiet
def test_a_table_of_maps_in_python_is_to_be_written_first(table, tmp_path):
    import datasets

    data = datasets.load_dataset(
        "parquet", data_files=str(table / "data" / "train-*"), cache_dir=str(tmp_path / "c")
    )
    with pytest.raises(UserError, match="maps of every pixel are read from files; write the splits by"):
        open_data(data)
    (tmp_path / "written").mkdir()
    for split in ("train", "test"):
        data["train"].to_parquet(tmp_path / "written" / f"{split}.parquet")
    assert_samples(open_data(tmp_path / "written", val_fraction=0).train, range(5))
