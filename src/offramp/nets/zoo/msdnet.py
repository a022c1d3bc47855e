"""MSDNet: multi-scale dense networks with early exits (Huang et al., ICLR 2018, arXiv:1703.09844).

A feature is a tuple of scales, fine to coarse. Every layer adds ``growth`` channels (times the scale's
factor) to every scale behind the old ones; all but the finest scale compute half of them from the scale
above. At regular depths the finest scale is dropped, and a transition halves the channels of the rest.
Exits read the coarsest scale. Parameters start from PyTorch's defaults.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from offramp.checks import described, is_number
from offramp.errors import UserError
from offramp.nets.multi_exit import MultiExitNet
from offramp.nets.zoo.builder import builder

__all__ = ["msdnet_cifar", "msdnet_imagenet"]

Scales = tuple[Tensor, ...]


@builder
def msdnet_cifar(
    num_classes: int = 100, growth: int = 16, channels: int = 16, *, dropout: float = 0.0
) -> MultiExitNet:
    """Seven exits, sixteen layers, three scales (32, 16, 8), for 32x32 images.

    Args:
        num_classes: Size of each exit's logits.
        growth: Channels that a layer adds to the finest scale.
        channels: Channels of the finest scale behind the stem.
        dropout: Probability of dropout before each classifier; Deep Feature Surgery's code has 0.5.
    """
    finest = nn.Sequential(*_conv(3, channels, 3))
    factors, layers = (1, 2, 4), (4, 2, 2, 2, 2, 2, 2)
    stages, widths = _stages(finest, factors, layers, channels, growth)
    heads = [_head(width, 128, num_classes, dropout) for width in widths]
    return MultiExitNet(stages, heads, convention="op-counter")


@builder
def msdnet_imagenet(
    num_classes: int = 1000, growth: int = 16, channels: int = 32, *, dropout: float = 0.0
) -> MultiExitNet:
    """Five exits, twenty layers, four scales (56, 28, 14, 7), for 224x224 images.

    Arguments are those of :func:`msdnet_cifar`.
    """
    conv = nn.Conv2d(3, channels, 7, stride=2, padding=3)
    finest = nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1))
    factors, layers = (1, 2, 4, 4), (4, 4, 4, 4, 4)
    stages, widths = _stages(finest, factors, layers, channels, growth)
    heads = [_head(width, width, num_classes, dropout) for width in widths]
    return MultiExitNet(stages, heads, input_size=(3, 224, 224), convention="op-counter")


class Stem(nn.Module):
    """An image to the first scales, each from the one above by a convolution of stride 2."""

    def __init__(self, finest: nn.Module, channels: int, factors: Sequence[int]) -> None:
        super().__init__()
        coarser = [
            nn.Sequential(*_conv(channels * finer, channels * factor, 3, stride=2))
            for finer, factor in itertools.pairwise(factors)
        ]
        self.scales = nn.ModuleList([finest, *coarser])

    def forward(self, x: Tensor) -> Scales:
        """``[N, 3, H, W]`` -> scales, fine to coarse."""
        scales = []
        for conv in self.scales:
            x = conv(x)
            scales.append(x)
        return tuple(scales)


class Layer(nn.Module):
    """New channels behind the old ones on every scale; optionally without the finest from here on."""

    def __init__(self, reads: int, growth: int, factors: Sequence[int], *, drop_finest: bool) -> None:
        super().__init__()
        kept = range(drop_finest, len(factors))
        self.scales = nn.ModuleList(GrowthBlock(scale, reads, growth, factors) for scale in kept)

    def forward(self, x: Scales) -> Scales:
        """Scales, fine to coarse -> the same with more channels."""
        return tuple(grow(x) for grow in self.scales)


class GrowthBlock(nn.Module):
    """One scale of a layer: (old channels, new ones from the finer scale, new ones from this scale)."""

    def __init__(self, scale: int, reads: int, growth: int, factors: Sequence[int]) -> None:
        super().__init__()
        self.scale = scale
        factor = factors[scale]
        new = growth * factor
        self.down = None
        if scale > 0:
            new //= 2
            finer = factors[scale - 1]
            self.down = _bottleneck(reads * finer, new, finer, stride=2)
        self.same = _bottleneck(reads * factor, new, factor)

    def forward(self, x: Scales) -> Tensor:
        """All incoming scales -> this scale, grown."""
        old = x[self.scale]
        if self.down is None:
            return torch.cat([old, self.same(old)], dim=1)
        return torch.cat([old, self.down(x[self.scale - 1]), self.same(old)], dim=1)


class Transition(nn.Module):
    """A 1x1 convolution on each scale that reduces its channels."""

    def __init__(self, reads: int, channels: int, factors: Sequence[int]) -> None:
        super().__init__()
        self.scales = nn.ModuleList(nn.Sequential(*_conv(reads * f, channels * f, 1)) for f in factors)

    def forward(self, x: Scales) -> Scales:
        """Scales, fine to coarse -> the same with fewer channels."""
        return tuple(conv(x[scale]) for scale, conv in enumerate(self.scales))


class CoarsestScale(nn.Module):
    """Picks the scale that the exits read."""

    def forward(self, x: Scales) -> Tensor:
        """Scales, fine to coarse -> the last one."""
        return x[-1]


def _stages(
    finest: nn.Module, factors: Sequence[int], layers: Sequence[int], channels: int, growth: int
) -> tuple[list[nn.Module], list[int]]:
    """The stages, and how many channels the coarsest scale has behind each."""
    interval = math.ceil(sum(layers) / len(factors))  # layers between two drops of the finest scale
    pending: list[nn.Module] = [Stem(finest, channels, factors)]
    stages: list[nn.Module] = []
    widths: list[int] = []
    depth = 0
    for count in layers:
        for _ in range(count):
            drop_finest = depth > 0 and depth % interval == 0
            pending.append(Layer(channels, growth, factors, drop_finest=drop_finest))
            channels += growth
            if drop_finest:
                factors = factors[1:]
                pending.append(Transition(channels, channels // 2, factors))
                channels //= 2
            depth += 1
        stages.append(nn.Sequential(*pending))
        widths.append(channels * factors[-1])
        pending = []
    return stages, widths


def _head(reads: int, width: int, num_classes: int, dropout: float) -> nn.Sequential:
    if not is_number(dropout) or not 0 <= dropout <= 1:
        raise UserError(f"dropout is {described(dropout)}, must be a probability, from 0 to 1")
    return nn.Sequential(
        CoarsestScale(),
        *_conv(reads, width, 3, stride=2),
        *_conv(width, width, 3, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(width, num_classes),
    )


def _bottleneck(reads: int, channels: int, factor: int, stride: int = 1) -> nn.Sequential:
    inner = min(reads, factor * channels)
    return nn.Sequential(*_conv(reads, inner, 1), *_conv(inner, channels, 3, stride))


def _conv(reads: int, channels: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(reads, channels, kernel, stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(channels), nn.ReLU()]
