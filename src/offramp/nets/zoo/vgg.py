"""VGG7 and VGG16 with an exit after every convolution, as in Deep Feature Surgery (ECCV 2024).

A stage is conv3x3 - ReLU - BatchNorm, in this order, and a 2x2 max-pool where the resolution halves. A
head is global average pooling and one linear layer. Only the first convolution has a bias. Parameters
start from PyTorch's defaults.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from offramp.errors import UserError
from offramp.forks.slicing import SliceFork
from offramp.nets.multi_exit import MultiExitNet
from offramp.nets.zoo.builder import builder

__all__ = ["vgg7", "vgg16"]


@builder
def vgg7(num_classes: int = 100, width: int = 64, *, slice_beta: float | None = None) -> MultiExitNet:
    """Six convolutions of width, 2 width and 4 width channels, six exits, for 32x32 images.

    Args:
        num_classes: Size of each exit's logits.
        width: Channels of the first two convolutions.
        slice_beta: Deep Feature Surgery *without* referencing (Eq 6): the next stage reads only the
            first ``round(slice_beta * C)`` channels of a feature, its head only the others, and no
            weights exist for what is not read. None: everybody reads everything.

    Raises:
        UserError: slice_beta leaves the next stage or a head without channels.
    """
    blocks = [(width, width), (2 * width, 2 * width), (4 * width, 4 * width)]
    return _vgg(blocks, num_classes, (3, 32, 32), slice_beta)


@builder
def vgg16(num_classes: int = 1000, width: int = 64, *, slice_beta: float | None = None) -> MultiExitNet:
    """Thirteen convolutions of width to 8 width channels, thirteen exits, for 224x224 images.

    Arguments and errors are those of :func:`vgg7`.
    """
    blocks = [(width,) * 2, (2 * width,) * 2, (4 * width,) * 3, (8 * width,) * 3, (8 * width,) * 3]
    return _vgg(blocks, num_classes, (3, 224, 224), slice_beta)


def _vgg(
    blocks: Sequence[Sequence[int]], num_classes: int, input_size: tuple[int, ...], slice_beta: float | None
) -> MultiExitNet:
    last = sum(map(len, blocks)) - 1
    stages: list[nn.Module] = []
    heads: list[nn.Module] = []
    forks: list[nn.Module] = []
    reads = input_size[0]
    for block in blocks:
        for j, channels in enumerate(block):
            stages.append(_stage(reads, channels, bias=not stages, pool=j == len(block) - 1))
            if slice_beta is None or len(forks) == last:
                reads = channels
                heads.append(_head(channels, num_classes))
            else:
                reads = _shared(slice_beta, channels)
                heads.append(_head(channels - reads, num_classes))
                forks.append(SliceFork(reads))
    net = MultiExitNet(stages, heads, input_size=input_size, convention="thop")
    if forks:
        net.forks = nn.ModuleList(forks)
    return net


def _stage(reads: int, channels: int, *, bias: bool, pool: bool) -> nn.Sequential:
    layers = [nn.Conv2d(reads, channels, 3, padding=1, bias=bias), nn.ReLU(), nn.BatchNorm2d(channels)]
    return nn.Sequential(*layers, nn.MaxPool2d(2)) if pool else nn.Sequential(*layers)


def _head(channels: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes, bias=False))


def _shared(slice_beta: float, channels: int) -> int:
    shared = round(slice_beta * channels)
    if not 0 < shared < channels:
        raise UserError(
            f"slice_beta={slice_beta} splits {channels} channels into {shared} and {channels - shared}; "
            "both parts need at least one: choose slice_beta nearer 0.5 or a larger width"
        )
    return shared
