"""Shallow-Deep Networks: a backbone with internal classifiers (Kaya et al., ICML 2019, arXiv:1810.07052).

An internal classifier brings a map to 4x4 by a learned mix of max and average pooling and applies one linear
layer. So these networks take images of one size only, 32x32.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from offramp.nets.multi_exit import MultiExitNet

__all__ = ["Layer", "MixedPool", "internal_classifier", "residual_layers", "sdn"]


class MixedPool(nn.Module):
    """A learned mix of max and average pooling.

    The share of max pooling, ``alpha``, is one number for all channels. It starts anywhere between 0 and 1
    and may leave this range. Over windows of one pixel it mixes a map with itself: there ``alpha`` changes
    nothing, and its gradient is exactly zero.

    Args:
        window: Side of the windows, which do not overlap.
    """

    def __init__(self, window: int) -> None:
        super().__init__()
        self.max, self.average = nn.MaxPool2d(window), nn.AvgPool2d(window)
        self.alpha = nn.Parameter(torch.rand(1))

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` -> ``[N, C, H // window, W // window]``."""
        mixed: Tensor = self.alpha * self.max(x) + (1 - self.alpha) * self.average(x)
        return mixed


def internal_classifier(channels: int, side: int, num_classes: int) -> nn.Sequential:
    """The head for maps ``[N, channels, side, side]``; those below 4x4 are not pooled."""
    pool: list[nn.Module] = []
    if side >= 4:
        window = side // 4
        pool = [MixedPool(window)]
        side //= window
    return nn.Sequential(*pool, nn.Flatten(), nn.Linear(channels * side**2, num_classes))


class Layer(NamedTuple):
    """A layer of a backbone, and the shape ``[N, channels, side, side]`` that it returns."""

    module: nn.Module
    channels: int
    side: int


def sdn(
    layers: Sequence[Layer],
    exits: Collection[int],
    end: nn.Sequential,
    *,
    num_classes: int,
    stem: nn.Module | None = None,
) -> MultiExitNet:
    """Put an internal classifier behind some layers of a backbone.

    Args:
        layers: The backbone.
        exits: The layers (from 1) that have one behind them; not the last layer.
        end: The backbone's own classifier, the last head.
        num_classes: Size of each exit's logits.
        stem: What comes before the first layer.
    """
    stages: list[nn.Module] = []
    heads: list[nn.Module] = []
    pending = [] if stem is None else [stem]
    for number, (module, channels, side) in enumerate(layers, start=1):
        pending.append(module)
        if number in exits:
            stages.append(nn.Sequential(*pending))
            heads.append(internal_classifier(channels, side, num_classes))
            pending = []
    stages.append(nn.Sequential(*pending))
    return MultiExitNet(stages, [*heads, end], convention="op-counter")


def residual_layers(
    block: Callable[[int, int, int], nn.Module], reads: int, widths: Sequence[int], blocks: int
) -> Iterator[Layer]:
    """Groups of residual blocks on maps of 32x32, 16x16, 8x8, ...

    Args:
        block: Builds one from the channels it reads, the channels it returns and its stride.
        reads: Channels of the stem.
        widths: Channels of each group.
        blocks: How many blocks a group has. The first of a later group has stride 2.
    """
    side = 32
    for group, channels in enumerate(widths):
        for index in range(blocks):
            stride = 2 if group > 0 and index == 0 else 1
            side //= stride
            yield Layer(block(reads, channels, stride), channels, side)
            reads = channels
