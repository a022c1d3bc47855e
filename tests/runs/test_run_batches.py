"""The images of a run's splits, normalised as in its training."""

import pytest
import torch
from tiny_runs import tiny_data, tiny_net

from offramp import Recipe, UserError, fit
from offramp.data import Origin


def test_batches_of_a_run_are_normalised_as_in_its_training():
    data = tiny_data()
    run = fit(tiny_net(), data, "joint", Recipe(epochs=1, batch_size=8, augment="none"), quiet=True)
    mean, std = (torch.tensor(run.record["normalisation"][key]).view(3, 1, 1) for key in ("mean", "std"))
    for split in ("train", "val", "test"):
        batches = [*run.batches(split)]
        images = torch.cat([batch.inputs for batch in batches])
        expected = (getattr(data, split).images / 255 - mean) / std
        torch.testing.assert_close(images, expected, rtol=1e-4, atol=1e-5)
        assert {batch.origin for batch in batches} == {Origin("noise", split, is_test=split == "test")}
    with pytest.raises(UserError, match="no split 'valid'"):
        run.batches("valid")


def test_a_run_without_validation_images_says_so():
    data = tiny_data(val=0)
    run = fit(tiny_net(), data, "joint", Recipe(epochs=1, batch_size=8), quiet=True)
    with pytest.raises(UserError, match="held out no validation samples"):
        run.batches()
