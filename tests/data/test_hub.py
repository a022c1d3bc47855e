"""Hub names through `datasets`, on a local folder of the same layout and without a network."""

from __future__ import annotations

import numpy as np
import pytest
from small_sets import noise, png, write_parquet

from offramp import UserError
from offramp.data import _sources, open_data

pytestmark = [
    pytest.mark.filterwarnings("default::DeprecationWarning"),
    pytest.mark.filterwarnings("default::FutureWarning"),
    pytest.mark.filterwarnings("default::ResourceWarning"),
]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A working directory with the repository ``uoft-cs/cifar100``, and no network."""
    import datasets
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    folder = tmp_path / "uoft-cs" / "cifar100" / "cifar100"
    for split, count in (("train", 12), ("test", 6)):
        write_parquet(
            folder / f"{split}-00000-of-00001.parquet",
            [png(p) for p in noise(count)],
            [i % 3 for i in range(count)],
            image_column="img",
            label_column="fine_label",
            more={"coarse_label": [0] * count},
        )
    return tmp_path


def test_a_set_that_datasets_loads(hub, monkeypatch):
    """The name goes to `datasets`, which is shown the local copy of the repository."""
    import datasets

    load = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda name: load(str(hub / name)))
    data = open_data("uoft-cs/cifar100", val_fraction=0)
    assert (data.name, data.classes) == ("cifar100", ("cat", "dog", "emu"))
    assert data.train.labels.tolist() == [i % 3 for i in range(12)]
    assert np.array_equal(data.train.images.permute(0, 2, 3, 1).numpy(), noise(12))
    assert np.array_equal(data.test.images.permute(0, 2, 3, 1).numpy(), noise(6))


def test_a_damaged_image_of_a_hub_set_is_named(hub, monkeypatch):
    import datasets

    folder = hub / "uoft-cs" / "cifar100" / "cifar100"
    write_parquet(folder / "train-00000-of-00001.parquet", [png(noise(1)[0]), b"no image"], [0, 1])
    write_parquet(folder / "test-00000-of-00001.parquet", [png(noise(1)[0])], [0])
    load = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda name: load(str(hub / name)))
    with pytest.raises(UserError, match="uoft-cs/cifar100 train, row 1: cannot decode the image"):
        open_data("uoft-cs/cifar100", val_fraction=0)


def test_large_parquet_files_are_mapped_through_datasets(hub, monkeypatch):
    monkeypatch.setattr(_sources, "MAX_BYTES", 100)
    data = open_data(hub / "uoft-cs" / "cifar100", val_fraction=0)
    assert np.array_equal(data.train.images.permute(0, 2, 3, 1).numpy(), noise(12))
    assert data.classes == ("cat", "dog", "emu") and len(data.test) == 6


def test_a_hub_that_cannot_be_reached(hub):
    with pytest.raises(UserError) as caught:
        open_data("no-one/nothing")
    line = str(caught.value)
    assert line.startswith("no folder 'no-one/nothing' here, and the hub does not give it (")
    assert line.endswith("or give a folder with train.parquet and test.parquet") and "\n" not in line


def test_the_hub_s_client_says_nothing_of_its_retries(hub, monkeypatch, caplog):
    import logging

    import datasets

    client = logging.getLogger("huggingface_hub.utils._http")

    def load(name):
        client.warning("Retrying in 1s [Retry 1/5].")
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(UserError, match=r"does not give it \(no network\)"):
        open_data("no-one/nothing")
    assert caplog.messages == []
    client.warning("Retrying")  # to others it speaks as before
    assert caplog.messages == ["Retrying"]
