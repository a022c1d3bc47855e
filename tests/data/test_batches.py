"""The order of batches: a pure function of its arguments, for splits in memory and in storage."""

from __future__ import annotations

import pytest
import torch

from offramp import UserError
from offramp.data import Batch, Split, Target, open_data
from offramp.data._order import stratified
from offramp.data.image_data import ImageData
from offramp.data.pipelines import PIPELINES, Transform, pipeline


def number(batch, generator):
    """Keep each image's number, which is its only value, and add noise that shows the generator."""
    numbers = batch.inputs[:, :1, 0, 0].float() + torch.rand(len(batch), 1, generator=generator) / 2
    return Batch(numbers, batch.targets)


@pytest.fixture
def split():
    images = torch.arange(23, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 5)
    return Split(images, {"label": torch.arange(23) + 100})


def run(split, **arguments):
    return [
        (batch.inputs.clone(), batch.targets["label"].clone())
        for batch in split.batches(5, transform=number, device="cpu", **arguments)
    ]


def same(one, two):
    return len(one) == len(two) and all(
        torch.equal(a, b) for x, y in zip(one, two, strict=True) for a, b in zip(x, y, strict=True)
    )


def test_an_epoch_has_every_image_once_with_its_label(split):
    batches = run(split, shuffle=True)
    assert [len(y) for _, y in batches] == [5, 5, 5, 5, 3]
    labels = torch.cat([y for _, y in batches])
    assert sorted(labels.tolist()) == list(range(100, 123))
    assert labels.tolist() != list(range(100, 123))
    assert torch.equal(torch.cat([x for x, _ in batches])[:, 0].floor().long() + 100, labels)
    assert len(batches) == split.num_batches(5)
    assert len(run(split, shuffle=True, drop_last=True)) == split.num_batches(5, drop_last=True) == 4


def test_without_shuffling_the_order_is_the_sets(split):
    assert torch.cat([y for _, y in run(split)]).tolist() == list(range(100, 123))


@pytest.mark.parametrize("start", range(6))
def test_a_later_start_gives_the_rest_of_the_same_epoch(split, start):
    whole = run(split, shuffle=True, seed=3, epoch=2)
    assert same(run(split, shuffle=True, seed=3, epoch=2, start=start), whole[start:])


def test_seed_and_epoch_change_order_and_augmentation(split):
    base = run(split, shuffle=True, seed=1, epoch=0)
    assert same(base, run(split, shuffle=True, seed=1, epoch=0))
    for other in ({"seed": 2, "epoch": 0}, {"seed": 1, "epoch": 1}):
        batches = run(split, shuffle=True, **other)
        assert not torch.equal(batches[0][1], base[0][1])
        assert not torch.equal(run(split, **other)[0][0], run(split, seed=1)[0][0])


def test_batches_leave_the_global_generator_alone(split):
    before = torch.get_rng_state()
    run(split, shuffle=True)
    assert torch.equal(torch.get_rng_state(), before)


def test_ranks_share_each_batch(split):
    ranks = [run(split, shuffle=True, rank=r, world=2) for r in range(2)]
    assert [len(r) for r in ranks] == [split.num_batches(5, world=2)] * 2 == [3, 3]
    assert [len(y) for r in ranks for _, y in r] == [5, 5, 2, 5, 5, 1]
    labels = [y for r in ranks for _, y in r]
    assert sorted(torch.cat(labels).tolist()) == list(range(100, 123))


def test_consecutive_samples_stay_in_one_process(split):
    shares = [split.batches(4, transform=number, device="cpu", rank=r, world=2, together=2) for r in range(2)]
    labels = [[(batch.targets["label"] - 100).tolist() for batch in share] for share in shares]
    assert labels == [
        [[0, 1, 4, 5], [8, 9, 12, 13], [16, 17, 20, 21]],
        [[2, 3, 6, 7], [10, 11, 14, 15], [18, 19, 22]],
    ]


def test_a_set_smaller_than_a_batch_that_must_be_full(split):
    with pytest.raises(UserError, match=r"23 samples do not fill one batch of 50; take .* `batch_size=23`"):
        split.num_batches(50, drop_last=True)


@pytest.mark.parametrize("count", [0, 1, 37, 100, 300])
def test_a_stratified_choice_gives_each_class_its_share(count):
    labels = torch.tensor([0] * 60 + [1] * 150 + [2] * 90)[torch.randperm(300)]
    chosen = stratified(labels, count, seed=4)
    assert len(set(chosen.tolist())) == count
    shares = labels[chosen].bincount(minlength=3) - count * torch.tensor([0.2, 0.5, 0.3])
    assert shares.abs().max() <= 1
    assert torch.equal(chosen, stratified(labels, count, seed=4))
    if 1 < count < 300:
        assert not torch.equal(chosen, stratified(labels, count, seed=5))


@pytest.fixture
def data(split):
    g = torch.Generator().manual_seed(0)
    images = torch.randint(256, (50, 3, 32, 32), generator=g, dtype=torch.uint8)
    images[:, 1] //= 3
    train = Split(images, {"label": torch.arange(50) % 5})
    return ImageData(
        name="x",
        source="x",
        targets={"label": Target("class", tuple("abcde"))},
        train=train,
        val=train,
        load_test=lambda: train,
    )


STATISTICS = {
    "dfs": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "dfs-autoaugment": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "msdnet": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "nyuv2": ((0, 0, 0), (1, 1, 1)),
}


@pytest.mark.parametrize("name", [name for name in PIPELINES if name != "imagenet"])
def test_evaluation_only_normalises(data, name):
    levels = data.train.images.double() / 255
    own = levels.mean((0, 2, 3)), levels.std((0, 2, 3), correction=0)
    mean, std = (torch.as_tensor(v, dtype=torch.float64).view(3, 1, 1) for v in STATISTICS.get(name, own))
    train, evaluate = pipeline(name, data)
    expected = ((levels - mean) / std).float()
    found = evaluate.images(data.train.images, torch.Generator())
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    augmented = train.images(data.train.images, torch.Generator().manual_seed(0))
    assert augmented.dtype == torch.float32 and augmented.shape == expected.shape
    assert (name == "none") == torch.allclose(augmented, expected, atol=1e-5)


@pytest.mark.parametrize(("name", "fill"), [("crop-flip", 0), ("dfs", 128), ("msdnet", 0)])
def test_padding_has_the_published_level(data, name, fill):
    """What crop and flip give, taken back to levels, is the image's own values and the fill."""
    train, _ = pipeline(name, data)
    images = torch.full((200, 3, 32, 32), 50, dtype=torch.uint8)
    out = train.images(images, torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (train.mean, train.std))
    levels = ((out * std + mean) * 255).round().unique().tolist()
    assert levels == sorted([50, fill])


def test_cutout_is_black_before_the_normalisation(data):
    train, _ = pipeline("dfs-autoaugment", data)
    out = train.images(torch.full((100, 3, 32, 32), 200, dtype=torch.uint8), torch.Generator().manual_seed(0))
    black = torch.tensor([-m / s for m, s in zip(train.mean, train.std, strict=True)])
    is_black = torch.isclose(out, black.view(3, 1, 1), atol=1e-4).all(1)
    assert (is_black.flatten(1).sum(1) >= 64).all()  # at least a corner of 8 x 8 of the 16 x 16 square


def test_a_blank_set_normalises_without_nan():
    blank = Split(torch.full((4, 3, 8, 8), 7, dtype=torch.uint8), {"label": torch.zeros(4, dtype=torch.long)})
    data = ImageData(
        name="x",
        source="x",
        targets={"label": Target("class", ("a",))},
        train=blank,
        val=blank,
        load_test=lambda: blank,
    )
    _, evaluate = pipeline("none", data)
    assert evaluate.images(blank.images, torch.Generator()).abs().max() < 1e-4


def test_unknown_and_unfit_pipelines(data):
    with pytest.raises(
        UserError, match=r"no pipeline 'crop-flop' \(did you mean 'crop-flip'\?\); there are: none"
    ):
        pipeline("crop-flop", data)
    with pytest.raises(UserError, match=r"'imagenet' cuts images as they are read.*size=224"):
        pipeline("imagenet", data)


def test_the_training_transform_keeps_nothing(parquet_folder):
    """Two passes over an opened set are bit for bit the same."""
    data = open_data(parquet_folder, val_fraction=0.2)
    train, _ = pipeline("dfs-autoaugment", data)
    assert isinstance(train, Transform)
    epochs = [
        [
            (batch.inputs, batch.targets["label"])
            for batch in data.train.batches(10, transform=train, device="cpu", shuffle=True, epoch=1)
        ]
        for _ in range(2)
    ]
    assert same(*epochs)
