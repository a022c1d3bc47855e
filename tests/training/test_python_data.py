"""Data that exist in Python: trained on, resumed with and evaluated as folders are."""

from __future__ import annotations

import datasets
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from tiny_runs import tiny_net
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from offramp import Recipe, Run, UserError, fit
from offramp.data import Target, open_data
from offramp.nets import MultiExitNet
from offramp.runs.fits import check_fits
from offramp.runs.formats import as_of_today
from offramp.runs.sets import open_recorded
from offramp.training._feed import Feed

RECIPE = Recipe(epochs=2, batch_size=8, lr=0.05, augment="none", val_fraction=0.2, checkpoint_every=1)
LABELS = torch.arange(30) % 3
IMAGES = torch.randint(0, 256, (30, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


class Samples(Dataset):
    """Samples one by one; the labels are known from reading them."""

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, row):
        return IMAGES[row], int(LABELS[row])


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(IMAGES, LABELS, strict=True))


def hugging_face():
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in IMAGES]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    return datasets.Dataset.from_dict({"image": pictures, "label": LABELS.tolist()}, features)


KINDS = {
    "dataset": Samples,
    "subset": lambda: Subset(Samples(), range(30)),
    "tensors": lambda: TensorDataset(IMAGES, LABELS),
    "loader": lambda: DataLoader(TensorDataset(IMAGES, LABELS), 4, shuffle=True),
    "samples of a loader": lambda: DataLoader(TensorDataset(IMAGES, LABELS), batch_size=None),
    "stream": Stream,
    "loader of a stream": lambda: DataLoader(Stream(), 4),
    "pairs": lambda: list(zip(IMAGES, LABELS, strict=True)),
    "arrays": lambda: (IMAGES.permute(0, 2, 3, 1).numpy(), LABELS.numpy()),
    "hugging face": hugging_face,
    "splits": lambda: {"train": Samples()},
    "dataset dict": lambda: datasets.DatasetDict(train=hugging_face()),
}


def weights(run):
    return {name: value.clone() for name, value in run.net.state_dict().items()}


@pytest.fixture(scope="module")
def expected():
    return weights(fit(tiny_net(), (IMAGES, LABELS), "joint", RECIPE, quiet=True))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_trains_the_same_resumes_and_evaluates(kind, expected, tmp_path):
    run = fit(tiny_net(), KINDS[kind](), "joint", RECIPE, tmp_path / "run", quiet=True)
    assert all(torch.equal(expected[name], value) for name, value in weights(run).items())
    again = fit(tiny_net(seed=9), KINDS[kind](), "joint", RECIPE, tmp_path / "run", resume=True, quiet=True)
    assert again.result == run.result
    opened = Run.open(tmp_path / "run", tiny_net(seed=9))
    with pytest.raises(UserError, match=r"trained on .* in Python.*`data=...`"):
        opened.evaluate()
    first = {"test": [(image, int(label)) for image, label in zip(IMAGES[:1], LABELS[:1], strict=True)]}
    assert opened.evaluate(first)["average_top1"] in (0, 50, 100)  # one image, two exits


def stop_in_the_second_epoch(monkeypatch):
    """Training ends after two of its three steps."""
    phase = Feed.phase

    def stopping(self, which, epoch, start, steps):
        yield from phase(self, which, epoch, start, steps if epoch == 0 else 2)
        if epoch:
            raise ZeroDivisionError

    monkeypatch.setattr(Feed, "phase", stopping)


def test_a_stopped_run_goes_on_with_the_same_data_only(expected, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        stop_in_the_second_epoch(patched)
        fit(tiny_net(), Samples(), "joint", RECIPE, run, quiet=True)
    assert not (run / "result.json").exists()
    turned = [(image, (int(label) + 1) % 3) for image, label in zip(IMAGES, LABELS, strict=True)]
    darker = [(image // 2, label) for image, label in zip(IMAGES, LABELS, strict=True)]
    for other in (turned, darker):
        with pytest.raises(UserError, match="a run with another data"):
            fit(tiny_net(), other, "joint", RECIPE, run, resume=True, quiet=True)
    resumed = fit(tiny_net(seed=4), Samples(), "joint", RECIPE, run, resume=True, quiet=True)
    assert all(torch.equal(expected[name], value) for name, value in weights(resumed).items())


class Drawing(Samples):
    """Draws from the global random numbers at each reading."""

    def __getitem__(self, row):
        image, label = super().__getitem__(row)
        return image + torch.randint(0, 9, (3, 1, 1), dtype=torch.uint8), label


def test_a_set_that_draws_random_numbers_resumes_bit_for_bit_and_says_so(tmp_path, monkeypatch, capsys):
    whole = fit(tiny_net(), Drawing(), "joint", RECIPE)
    assert "draws random numbers of its own" in capsys.readouterr().err
    run = tmp_path / "run"
    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        stop_in_the_second_epoch(patched)
        fit(tiny_net(), Drawing(), "joint", RECIPE, run, quiet=True)
    resumed = fit(tiny_net(seed=4), Drawing(), "joint", RECIPE, run, resume=True, quiet=True)
    assert all(torch.equal(value, weights(resumed)[name]) for name, value in weights(whole).items())


@pytest.mark.parametrize("channels", [1, 4, 12])
def test_images_of_other_channels_train_nets_that_read_them(channels):
    generator = torch.Generator().manual_seed(channels)
    images = torch.rand(30, channels, 8, 8, generator=generator)
    stages = [torch.nn.Conv2d(channels, 4, 3, 2), torch.nn.Conv2d(4, 4, 3)]
    heads = [
        torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 3))
        for _ in stages
    ]
    net = MultiExitNet(stages, heads, input_size=(channels, 8, 8))
    before = stages[0].weight.clone()
    fit(net, (images, LABELS), "joint", RECIPE.replace(augment="crop-flip"), quiet=True)
    assert not torch.equal(stages[0].weight, before)


def test_a_batch_that_is_too_large_is_refused_with_one_that_fits():
    with pytest.raises(UserError, match=r"24 samples do not fill one batch of 128; .*`batch_size=24`"):
        fit(tiny_net(), Samples(), "joint", RECIPE.replace(batch_size=128), quiet=True)
    fit(tiny_net(), Samples(), "joint", RECIPE.replace(batch_size=24, epochs=1), quiet=True)


def classes(names):
    return {"label": Target("class", tuple(names))}


def test_a_net_of_numbered_classes_is_not_taken_for_one_of_other_numbers():
    data = open_data((IMAGES, LABELS + 1))
    assert data.classes == ("1", "2", "3")
    check_fits(tiny_net(), data, classes("123"))
    with pytest.raises(UserError, match="trained on the classes"):
        check_fits(tiny_net(), data, classes("012"))
    named = open_data({"train": (IMAGES, LABELS)}, classes=["ant", "bee", "cat"])
    check_fits(tiny_net(), named, classes("012"))  # words for numbers


def folder_of_gaps(tmp_path):
    for split in ("train", "validation", "test"):
        contents = []
        for i in range(6):
            Image.fromarray(IMAGES[i].permute(1, 2, 0).numpy()).save(tmp_path / "x.png")
            contents.append((tmp_path / "x.png").read_bytes())
        table = pa.table({"image": contents, "label": [0, 3, 0, 3, 0, 3]})
        parquet.write_table(table, tmp_path / f"{split}.parquet")
    return tmp_path


def test_a_resume_with_another_val_split_is_refused(tmp_path):
    data, run = folder_of_gaps(tmp_path), tmp_path / "run"
    recipe = RECIPE.replace(batch_size=2, epochs=1)
    fit(tiny_net(classes=2), data, "joint", recipe.replace(val_split=False), run, quiet=True)
    with pytest.raises(UserError, match="a run with another data"):
        fit(tiny_net(classes=2), data, "joint", recipe, run, resume=True, quiet=True)


def test_an_old_record_knew_no_validation_split_and_had_a_class_for_each_number(tmp_path):
    folder_of_gaps(tmp_path)
    recipe = {k: v for k, v in RECIPE.to_dict().items() if k not in ("classes", "channels", "val_split")}
    data = {"source": str(tmp_path), "classes": ["0", "1", "2", "3"], "input_size": [3, 8, 8]}
    record = {"net": {"net": "vgg7"}, "method": "joint", "options": {}, "data": data, "recipe": recipe}
    opened = open_recorded(as_of_today(record, tmp_path / "run.json"))
    assert (len(opened.train), len(opened.val)) == (5, 1)
    assert opened.num_classes == 4 and opened.test.labels.tolist() == [0, 3, 0, 3, 0, 3]
