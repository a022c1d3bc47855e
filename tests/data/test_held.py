"""Labels and class names that joined data sets and parts of them hold, without a sample being read."""

from __future__ import annotations

import pytest
import torch
from small_sets import noise
from torch.utils import data as torch_data

from offramp.data import open_data
from offramp.data._held import held_labels

N = 24
IMAGES = torch.from_numpy(noise(N))
LABELS = [i % 3 for i in range(N)]
WORDS = ("cat", "dog", "emu")


class Counted(torch_data.Dataset):
    """Samples of which each counts how often it was read; what is given beside them are its attributes."""

    def __init__(self, labels=LABELS, **attributes):
        self.labels_of_samples, self.read = labels, 0
        vars(self).update(attributes)

    def __len__(self):
        return len(self.labels_of_samples)

    def __getitem__(self, row):
        self.read += 1
        return IMAGES[row], self.labels_of_samples[row]


def opened(data):
    return open_data({"train": data, "test": (IMAGES, LABELS)}, val_fraction=0)


def joined(*parts):
    return torch_data.ConcatDataset(parts)


def held(labels=LABELS, **attributes):
    return Counted(labels, targets=labels, **attributes)


@pytest.mark.parametrize(
    ("wrap", "labels"),
    [
        (lambda part: joined(part, part), LABELS * 2),
        (lambda part: joined(torch_data.Subset(part, [5, 4, 0]), part), [2, 1, 0, *LABELS]),
        (lambda part: torch_data.Subset(joined(part, joined(part)), [30, 1, 23, 47]), [0, 1, 2, 2]),
    ],
    ids=["joined", "part-joined", "part-of-joined"],
)
def test_labels_that_parts_hold_are_not_read_from_the_samples(wrap, labels):
    part = held()
    assert held_labels(wrap(part)) == labels
    assert not part.read
    assert opened(wrap(part)).train.labels.tolist() == labels


@pytest.mark.parametrize(
    "parts",
    [
        (held(), Counted()),
        (Counted(targets=LABELS[:-1]), held()),  # of another length
        (Counted(targets=LABELS[:-1]), Counted(targets=[*LABELS, 1])),  # so that the sum is right
        (Counted(targets=torch.eye(3)[torch.tensor(LABELS)]), held()),  # one-hot
        (Counted(targets=torch.zeros(N, device="meta")), held()),
        (Counted(targets=[2 - label for label in LABELS]), held()),  # not those that its samples have
    ],
    ids=["none", "short", "shifted", "one-hot", "meta", "others"],
)
def test_where_a_part_holds_none_the_samples_are_read(parts):
    assert opened(joined(*parts)).train.labels.tolist() == LABELS * 2
    assert opened(joined(*reversed(parts))).train.labels.tolist() == LABELS * 2


@pytest.mark.parametrize("shape", [(N,), (N, 1)])
def test_labels_of_tensors_are_held(shape):
    tensors = torch_data.TensorDataset(IMAGES, torch.tensor(LABELS).view(shape))
    assert held_labels(torch_data.Subset(tensors, range(4, N))) == LABELS[4:]


def test_a_part_of_samples_with_too_few_labels_is_read():
    part = torch_data.Subset(Counted(targets=LABELS[:5]), range(N))
    assert opened(part).train.labels.tolist() == LABELS


def test_a_property_that_fails_is_none():
    class Failing(Counted):
        @property
        def targets(self):
            raise RuntimeError("not downloaded")

        @property
        def classes(self):
            raise RuntimeError("not downloaded")

    data = opened(Failing())
    assert data.train.labels.tolist() == LABELS
    assert data.classes == ("0", "1", "2")


def test_parts_that_name_their_classes_alike_name_those_of_the_whole():
    assert opened(joined(held(classes=[*WORDS]), held(classes=[*WORDS]))).classes == WORDS
    assert opened(joined(held(classes=[*WORDS]), held())).classes == ("0", "1", "2")


@pytest.mark.parametrize("wrap", [joined, lambda *parts: torch_data.Subset(joined(*parts), range(N))])
def test_parts_that_number_other_classes_are_told(wrap):
    data = opened(wrap(held(classes=["cat", "dog", "emu"]), held(classes=["cat", "emu", "dog"])))
    assert data.classes == ("0", "1", "2")
    assert data.notes[0].endswith(
        "joins data sets that number other classes: 1 is 'dog' in one of them and 'emu' in another; it is "
        "taken for one class"
    )
    (note,) = opened(wrap(held(classes=["cat", "dog"]), held(classes=["cat", "dog", "emu"]))).notes[:1]
    assert ": 2 is nothing in one of them and 'emu' in another;" in note
