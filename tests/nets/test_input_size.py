"""The shape of an input that is none is refused wherever it is given."""

import numpy as np
import pytest
import torch
from torch import nn

import offramp
from offramp.errors import UserError
from offramp.nets import MultiExitNet
from offramp.nets.text import build


def backbone():
    convolution = nn.Conv2d(3, 4, 3, padding=1)
    return nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))


def attached(size):
    return offramp.attach(backbone(), at=["0"], input_size=size)


def by_hand(size):
    heads = [nn.Linear(3072, 10), nn.Linear(3072, 10)]
    return MultiExitNet([nn.Flatten(), nn.ReLU()], heads, input_size=size)


def counted(size):
    net = build("vgg7:width=4")
    net.input_size = size
    return offramp.cost(net)


@pytest.mark.parametrize("give", [attached, by_hand, counted])
@pytest.mark.parametrize(
    "size",
    [
        (3, -1, 32), (3, 0, 32), (-3, 32, 32), (3, 1.5, 32), (3, 32.0, 32), (3, float("nan"), 32),
        (3, "32", 32), (3, True, 32), [[3, 32, 32]], "abc", 3, {3, 32}, {1: 2}, (3, 2**40, 2**40),
        (3, 10**400, 3),
    ],
)  # fmt: skip
def test_no_size(give, size):
    with pytest.raises(UserError, match=r"size") as caught:
        give(size)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "size", [(3, 32, 32), [3, 32, 32], torch.Size([3, 32, 32]), tuple(np.array([3, 32, 32]))]
)
def test_a_size(size):
    assert attached(size).input_size == by_hand(size).input_size == (3, 32, 32)
