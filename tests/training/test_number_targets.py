"""Several labels and numbers as targets train, also where most of them are unknown."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import offramp
from offramp import Recipe, Run, fit
from offramp.data import ImageData, Split, Target, TargetTensors
from offramp.tasks import MultiLabel, Regression

KINDS = {"bright": Target("labels", ("red", "green", "blue")), "level": Target("values", size=2)}
RECIPE = Recipe(epochs=12, batch_size=8, lr=0.05, augment="none", val_fraction=0)


def net():
    torch.manual_seed(0)
    decoders = {
        "bright": (nn.Linear(16, 3), MultiLabel(target="bright")),
        "level": (nn.Linear(16, 2), Regression(target="level", penalty="mse")),
    }
    trunk = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.ReLU())
    return offramp.multi_task(trunk, decoders, input_size=(3, 2, 2))


def data(unknown):
    """Which channels are bright, and the levels of two of them."""
    draws = torch.Generator().manual_seed(1)

    def split(count):
        levels = torch.rand(count, 3, generator=draws)
        targets = {"bright": (levels > 0.5).float(), "level": levels[:, :2].clone()}
        for target in targets.values():
            target[torch.rand(target.shape, generator=draws) < unknown] = torch.nan
        images = levels[:, :, None, None].expand(-1, -1, 2, 2).contiguous()
        return Split(images, TargetTensors(targets, KINDS))

    parts = [split(count) for count in (64, 0, 40)]
    return ImageData(
        name="levels",
        source="levels",
        targets=KINDS,
        train=parts[0],
        val=parts[1],
        load_test=lambda: parts[2],
    )


@pytest.mark.parametrize("method", ["joint", "cagrad"])
@pytest.mark.parametrize("unknown", [0.0, 0.6])
def test_they_are_learned(method, unknown, tmp_path):
    run = fit(net(), data(unknown), method, RECIPE, tmp_path / "run", quiet=True)
    metrics = {name: output.metrics for name, output in run.result.outputs.items()}
    assert metrics["bright"]["f1"] > 80  # all labels for all samples: about 67
    assert metrics["level"]["mae"] < 0.15  # one number for all: 0.25
    assert run.result.last_epochs is None
    assert Run.open(tmp_path / "run", net()).result == run.result
