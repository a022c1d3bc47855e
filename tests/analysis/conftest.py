import pytest
import torch
from torch import nn

from offramp.nets import MultiExitNet


@pytest.fixture
def conv_net():
    """Three exits: convolutions, norms and dropout, in float64; and a batch for it."""
    torch.manual_seed(0)
    stages = [
        nn.Sequential(nn.Conv2d(reads, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
        for reads in (3, 4, 4)
    ]
    heads = [nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)) for _ in stages]
    net = MultiExitNet(stages, heads, input_size=(3, 8, 8)).double()
    return net, torch.randn(6, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.fixture
def state():
    """A copy of all parameters and buffers of a net, and of its modules' modes."""

    def read(net):
        tensors = {name: value.clone() for name, value in net.state_dict().items()}
        return tensors, [module.training for module in net.modules()]

    return read
