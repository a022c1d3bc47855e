"""A small net of three tasks that read the trunk everywhere, as MTAN does, and data that lack targets."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from offramp.data import ImageData, Split
from offramp.data.target_tensors import TargetTensors
from offramp.data.targets import Target
from offramp.nets import Net
from offramp.tasks import Boxes, Classification

CLASSES = 5
CHANNELS = 4


class Attentive(Net):
    """Two trunk features, each gated by each task; a shared layer that each task calls by itself.

    ``trunk`` has three owners, ``pair`` the last two tasks, ``decoders[k]`` task k; ``log_variances`` none.

    Args:
        sizes: Numbers of each task's output.
        norm: Whether there is batch norm.
    """

    outputs: ClassVar = {
        "color": Classification(target="color"),
        "box": Boxes(target="box"),
        "shape": Classification(target="shape"),
    }
    input_size = (3, 6, 6)

    def __init__(self, sizes=(CLASSES, 4, CLASSES), *, norm: bool = True):
        super().__init__()

        def conv(reads: int, size: int = 3) -> nn.Sequential:
            layer = nn.Conv2d(reads, CHANNELS, size, padding=size // 2)
            return nn.Sequential(layer, nn.BatchNorm2d(CHANNELS) if norm else nn.Identity(), nn.ReLU())

        def decoder(size: int) -> nn.ModuleDict:
            gates = {"first": conv(CHANNELS, 1), "second": conv(2 * CHANNELS, 1)}
            return nn.ModuleDict({**gates, "head": nn.Linear(CHANNELS, size)})

        reads = {"first": 3, "second": CHANNELS, "attention": CHANNELS}
        self.trunk = nn.ModuleDict({name: conv(channels) for name, channels in reads.items()})
        self.pair = conv(CHANNELS)
        self.decoders = nn.ModuleList(map(decoder, sizes))
        self.log_variances = nn.Parameter(torch.zeros(len(sizes)), requires_grad=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        first = self.trunk["first"](x)
        second = self.trunk["second"](first)
        return [self.decode(k, first, second) for k in range(len(self.decoders))]

    def decode(self, k: int, first: Tensor, second: Tensor) -> Tensor:
        decoder = self.decoders[k]
        attended = self.trunk["attention"](decoder["first"](first).sigmoid() * first)
        gate = decoder["second"](torch.cat([second, attended], 1))
        attended = gate.sigmoid() * second
        if k > 0:
            attended = attended + self.pair(attended)
        return decoder["head"](attended.mean((2, 3)))


def partly_labelled(train: int = 40, split: type[Split] = Split) -> ImageData:
    """Noise; every image has a color, about a third a shape, and a tenth a box."""
    draws = torch.Generator().manual_seed(3)
    kinds = {
        "color": Target("class", tuple("abcde")),
        "box": Target("box"),
        "shape": Target("class", tuple("vwxyz")),
    }

    def part(count: int, kind: type[Split]) -> Split:
        images = torch.randint(0, 256, (count, 3, 6, 6), generator=draws).to(torch.uint8)
        has = torch.rand(3, count, generator=draws)
        box = torch.rand(count, 4, generator=draws).sort().values
        targets = {
            "color": torch.randint(CLASSES, (count,), generator=draws),
            "box": torch.where(has[1, :, None] < 0.1, box, torch.nan),
            "shape": torch.where(has[2] < 0.35, torch.randint(CLASSES, (count,), generator=draws), -100),
        }
        return kind(images, TargetTensors(targets, kinds))

    parts = part(train, split), part(12, Split), part(20, Split)
    return ImageData(
        name="partly",
        source="partly",
        targets=kinds,
        train=parts[0],
        val=parts[1],
        load_test=lambda: parts[2],
    )
