"""DataLoaders, and several data sets given as one."""

from __future__ import annotations

import pytest
import torch
from small_sets import noise, refused
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)

from offramp.data import open_data

N = 24
IMAGES = torch.from_numpy(noise(N))
LABELS = torch.arange(N) % 3
DATA = TensorDataset(IMAGES, LABELS)
ARRAYS = (IMAGES.numpy(), LABELS.numpy())


class Stream(IterableDataset):
    def __iter__(self):
        return iter(DATA)


@pytest.mark.parametrize(
    "data",
    [
        (DATA, DATA),
        [DATA],
        random_split(DATA, [16, 8]),
        (DataLoader(DATA), DataLoader(DATA)),
        (Stream(), Stream()),
        (DataLoader(Stream()), DATA),
        (ARRAYS, ARRAYS),
    ],
)
def test_several_data_sets_are_asked_which_splits_they_are(data):
    refused([f"is a {type(data).__name__} of data sets; say which split each is, {{'train': "], data)


def test_a_loader_of_a_stream_can_only_be_read_from_its_beginning():
    data = open_data(DataLoader(Stream(), 5), val_fraction=0)
    assert data.notes[0].startswith("Stream can only be read from its beginning: its 24 samples")
    assert data.train.labels.tolist() == LABELS.tolist()


def test_a_loader_without_batches_is_its_data_set():
    data = open_data(DataLoader(DATA, batch_size=None), val_fraction=0)
    assert data.notes[0].startswith("TensorDataset is read in the recipe's batches")
    assert data.train.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("sampler", "told"),
    [
        (WeightedRandomSampler(torch.ones(N), 4 * N), True),
        (RandomSampler(DATA, replacement=True), True),
        (WeightedRandomSampler(torch.ones(N), N, replacement=False), False),
        (RandomSampler(DATA, num_samples=2 * N), True),
        (RandomSampler(DATA, num_samples=N // 2), False),
        (SequentialSampler(range(N // 2)), False),
    ],
)
def test_who_draws_samples_twice_is_told_that_validation_may_have_training_samples(sampler, told):
    torch.manual_seed(0)
    data = open_data(DataLoader(DATA, 6, sampler=sampler), val_fraction=0.25)
    assert any("may be training samples too" in note for note in data.notes) == told
    assert len(data.train) + len(data.val) == len(sampler)
