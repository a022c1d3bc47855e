"""Mixup and CutMix against their definitions."""

from __future__ import annotations

import pytest
import torch

from offramp.data import Batch, Target
from offramp.data._mixing import Mix

LABELS = torch.tensor([0, 1, 2, 3, 4, 4])


def mixed(seed=0, size=8, **options):
    images = (LABELS[:, None, None, None] + 1).float().expand(-1, 3, size, size)  # label k is the level k + 1
    batch = Batch(images, {"label": LABELS})
    return Mix({"label": Target("class", tuple("abcde"))}, **options)(
        batch, torch.Generator().manual_seed(seed)
    )


def levels(shares):
    return shares @ torch.arange(1.0, 6.0)


@pytest.mark.parametrize("seed", range(5))
def test_mixup_mixes_pixels_as_labels(seed):
    batch = mixed(seed, mixup=0.4)
    shares = batch.targets["label"]
    torch.testing.assert_close(shares.sum(1), torch.ones(6))
    assert (shares > 0).sum(1).max() <= 2
    torch.testing.assert_close(batch.inputs, levels(shares)[:, None, None, None].expand_as(batch.inputs))


@pytest.mark.parametrize("seed", range(5))
def test_the_label_of_cutmix_is_the_area(seed):
    batch = mixed(seed, size=9, cutmix=1.0)
    torch.testing.assert_close(batch.inputs.mean((1, 2, 3)), levels(batch.targets["label"]))
    for image, label in zip(batch.inputs, LABELS, strict=True):
        other = image[0] != label + 1
        rows, columns = other.any(1), other.any(0)
        assert torch.equal(other, rows[:, None] & columns)  # a box


def test_batches_draw_one_of_both():
    fractions = [mixed(seed, mixup=1.0, cutmix=1.0).inputs for seed in range(40)]
    whole = [bool((images == images.round()).all()) for images in fractions]
    assert 8 < sum(whole) < 32  # 40 fair coins: outside with a probability of 1e-4


def test_it_is_a_function_of_its_generator():
    assert torch.equal(mixed(3, mixup=0.2).inputs, mixed(3, mixup=0.2).inputs)
    assert not torch.equal(mixed(3, mixup=0.2).inputs, mixed(4, mixup=0.2).inputs)
