"""Steps to try objectives on: the inputs of ``golden/data/distill_losses.json``, and small nets."""

import json
from pathlib import Path

import pytest
import torch
from steps import exit_step
from torch import nn

from offramp.nets import MultiExitNet

DATA = Path(__file__).parents[2] / "golden" / "data"


@pytest.fixture
def golden():
    """Numbers from the public code of Deep Feature Surgery and IMTA."""
    return json.loads((DATA / "distill_losses.json").read_text())


@pytest.fixture
def schedule():
    """The loss weights of the public code of Shallow-Deep Networks and Meta-GF, over 100 epochs."""
    return json.loads((DATA / "sdn_schedule.json").read_text())


@pytest.fixture
def make_step(golden):
    """A step with the golden inputs: 4 exits, 6 samples, 10 classes, 8 features, in float64."""

    def make(net=None, dtype=torch.float64, **changes):
        outputs = [torch.tensor(z, dtype=dtype).requires_grad_() for z in golden["z"]]
        features = [torch.tensor(f, dtype=dtype).requires_grad_() for f in golden["f"]]
        return exit_step(net, outputs, torch.arange(6) % 10, **{"features": features, **changes})

    return make


@pytest.fixture
def line():
    """Builds a net of linear stages and heads: exit k's feature has ``widths[k]`` numbers."""

    def build(*widths):
        stages = [nn.Linear(a, b) for a, b in zip((widths[0], *widths), widths, strict=False)]
        return MultiExitNet(stages, [nn.Linear(width, 10) for width in widths], input_size=(widths[0],))

    return build
