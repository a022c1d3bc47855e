"""What a batch can be asked for."""

from __future__ import annotations

import torch

from offramp.data import Batch


def test_parts_of_named_inputs_and_targets():
    batch = Batch({"ids": torch.arange(10).view(5, 2), "mask": torch.ones(5)}, {"label": torch.arange(5)})
    assert len(batch) == 5
    assert batch.first(2).inputs["ids"].tolist() == [[0, 1], [2, 3]]
    shares = [batch.share(rank, 2) for rank in range(2)]
    assert [len(share) for share in shares] == [3, 2]
    assert shares[1].targets["label"].tolist() == [1, 3]
    assert batch.share(0, 1) is batch
    assert batch.to("cpu").targets["label"].tolist() == [*range(5)]


def test_channels_last_is_for_images():
    images = Batch(torch.zeros(2, 3, 4, 4), {}).channels_last().inputs
    assert images.is_contiguous(memory_format=torch.channels_last)
    rows = Batch(torch.zeros(2, 3), {})
    assert rows.channels_last() is rows
