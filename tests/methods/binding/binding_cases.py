"""A tiny net in float64, its batches, and a look at gradients."""

from __future__ import annotations

import torch
from torch import nn

from offramp.nets import MultiExitNet

CLASSES = 3


def tiny_net(seed: int = 0) -> MultiExitNet:
    torch.manual_seed(seed)
    stages = [
        nn.Sequential(nn.Conv2d(reads, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.Tanh()) for reads in (3, 6, 6)
    ]
    heads = [nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, CLASSES)) for _ in stages]
    return MultiExitNet(stages, heads, input_size=(3, 8, 8)).double()


def batches(count: int = 3, size: int = 6):
    draws = torch.Generator().manual_seed(1)
    for _ in range(count):
        images = torch.randn(size, 3, 8, 8, generator=draws, dtype=torch.float64)
        yield images, torch.randint(CLASSES, (size,), generator=draws)


def grads_of(*modules: nn.Module):
    return [None if p.grad is None else p.grad.clone() for m in modules for p in m.parameters()]


def assert_same(found, expected, tolerance: float = 0.0):
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert (one - other).abs().max() <= tolerance * other.abs().max()
