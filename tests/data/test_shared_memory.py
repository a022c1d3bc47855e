"""Worker processes that have no room for a batch in shared memory, as where /dev/shm is small."""

from __future__ import annotations

import resource

import pytest
import torch
from torch.utils.data import Dataset

from offramp import UserError
from offramp.data._loading import loaded

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


class Cramped(Dataset):
    """Gives batches in a process whose files, shared memory among them, have at most 1000 bytes."""

    def __getitem__(self, rows):
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most))
        return torch.tensor(rows), {"image": torch.ones(rows[0], 3)}


def test_no_room_for_a_batch_is_one_line_and_no_waiting():
    batches = loaded(Cramped(), [[2], [2000]], workers=1)
    rows, targets = next(batches)
    assert rows.tolist() == [2] and torch.equal(targets["image"], torch.ones(2, 3))
    with pytest.raises(UserError, match=r"no shared memory for a batch .*; make room in /dev/shm") as refused:
        next(batches)
    assert "\n" not in str(refused.value)
