"""SegNet, the trunk of the dense-prediction nets, with its heads and what all of these nets share.

Badrinarayanan, Kendall, Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image
Segmentation", TPAMI 2017, in the form of Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention"
(CVPR 2019): five stages down with width, 2, 4, 8, 8 times width channels, and five up again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offramp.errors import UserError
from offramp.tasks import Depth, Normals, Segmentation, Task

__all__ = [
    "SIZE",
    "TASKS",
    "Maps",
    "SegNet",
    "check_sides",
    "conv",
    "head",
    "initialise",
    "log_variances",
    "pooled",
    "unpooled",
    "widths",
]

SIZE = (3, 288, 384)  # of NYUv2's images, as published
TASKS: dict[str, Task] = {"segmentation": Segmentation(), "depth": Depth(), "normals": Normals()}


def widths(width: int) -> list[int]:
    """Channels of the five stages, from the finest to the coarsest."""
    return [width * factor for factor in (1, 2, 4, 8, 8)]


def conv(reads: int, gives: int) -> nn.Sequential:
    """A 3x3 convolution, BatchNorm and ReLU."""
    return nn.Sequential(nn.Conv2d(reads, gives, 3, padding=1), nn.BatchNorm2d(gives), nn.ReLU(inplace=True))


class Stage(nn.Module):
    """Convolutions at one scale; gives the map of the first one and that of the last.

    Args:
        reads: Channels of the map that it reads.
        gives: Channels of all that it makes.
        further: How many convolutions follow the first.
    """

    def __init__(self, reads: int, gives: int, further: int) -> None:
        super().__init__()
        self.first = conv(reads, gives)
        self.rest = nn.Sequential(*(conv(gives, gives) for _ in range(further)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``[N, reads, H, W]`` -> two maps ``[N, gives, H, W]``."""
        first = self.first(x)
        return first, self.rest(first)


class Maps(NamedTuple):
    """What a SegNet makes on its way, the stages in the order in which they run.

    Attributes:
        encoder: Of each stage down, what its first and what its last convolution gives.
        decoder: Of each stage up, the unpooled map that it reads, and what its last convolution gives.
    """

    encoder: list[tuple[Tensor, Tensor]]
    decoder: list[tuple[Tensor, Tensor]]


class SegNet(nn.Module):
    """Five stages with a max-pooling behind each, and five with an unpooling to the same places before each.

    Args:
        width: Channels of the finest scale.

    Attributes:
        encoder: The stages down, from the finest scale.
        decoder: The stages up, from the coarsest scale.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        f, further = widths(width), (1, 1, 2, 2, 2)
        down, up = zip([3, *f[:-1]], f, further, strict=True), zip(f, [f[0], *f[:-1]], further, strict=True)
        self.encoder = nn.ModuleList(Stage(*sizes) for sizes in down)
        self.decoder = nn.ModuleList(Stage(*sizes) for sizes in reversed([*up]))

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[N, 3, H, W]`` -> a map ``[N, width, H, W]``.

        Raises:
            UserError: The sides of the images are no multiples of 32.
        """
        return self.maps(x).decoder[-1][1]

    def maps(self, x: Tensor) -> Maps:
        """All maps of a forward pass.

        Raises:
            UserError: The sides of the images are no multiples of 32.
        """
        check_sides(x)
        maps, places = Maps([], []), []
        for stage in self.encoder:
            maps.encoder.append(stage(x))
            x, indices = pooled(maps.encoder[-1][1])
            places.append(indices)
        for stage in self.decoder:
            read = unpooled(x, places.pop())
            _, x = stage(read)
            maps.decoder.append((read, x))
        return maps


def check_sides(images: Tensor) -> None:
    """Check that images can be halved five times.

    Raises:
        UserError: They cannot.
    """
    height, width = images.shape[-2:]
    if height % 32 or width % 32:
        raise UserError(
            f"the images are {height}x{width}, and a SegNet halves them five times; crop or resize them to "
            f"sides that are multiples of 32, e.g. {max(32, height // 32 * 32)}x{max(32, width // 32 * 32)}"
        )


def pooled(x: Tensor) -> tuple[Tensor, Tensor]:
    """The maxima of 2x2 windows, and their places."""
    return F.max_pool2d(x, 2, return_indices=True)


def unpooled(x: Tensor, places: Tensor) -> Tensor:
    """A map of twice the sides, zero but for the values of ``x`` at their places."""
    return F.max_unpool2d(x, places, [2, 2])


class _Unit(nn.Module):
    """Scales the vectors along the channels to length 1."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1)


def head(task: str, reads: int, num_classes: int) -> nn.Sequential:
    """Two convolutions and the task's own end: log-probabilities, depth as it is, or unit normals.

    Args:
        task: A key of :data:`TASKS`.
        reads: Channels of the map.
        num_classes: How many classes the segmentation tells apart.
    """
    ends: dict[str, tuple[int, list[nn.Module]]] = {
        "segmentation": (num_classes, [nn.LogSoftmax(1)]),
        "depth": (1, []),
        "normals": (3, [_Unit()]),
    }
    gives, end = ends[task]
    return nn.Sequential(nn.Conv2d(reads, reads, 3, padding=1), nn.Conv2d(reads, gives, 1), *end)


def initialise(net: nn.Module, weights: Callable[[Tensor], Tensor] = nn.init.xavier_normal_) -> None:
    """Draw the weights of all convolutions, and set their biases to 0, as published."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            weights(module.weight)
            assert module.bias is not None
            nn.init.zeros_(module.bias)


def log_variances() -> nn.Parameter:
    """One number per task, -0.5 each, which no output reads: the published nets of three tasks hold them."""
    return nn.Parameter(torch.full((len(TASKS),), -0.5))
