"""SegNet-MTAN: one shared SegNet, whose maps each task attends to in its own way.

Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, Section 3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offramp.nets.net import Net
from offramp.nets.zoo._segnet import (
    SIZE,
    TASKS,
    Maps,
    SegNet,
    conv,
    head,
    initialise,
    log_variances,
    widths,
)
from offramp.nets.zoo.builder import builder

__all__ = ["SegNetMTAN", "segnet_mtan"]


class SegNetMTAN(Net):
    """A SegNet, and for each task gates that choose, scale by scale, what of its maps the task reads.

    Args:
        num_classes: How many classes the segmentation tells apart.
        width: Channels of the finest scale.

    Attributes:
        trunk: The SegNet.
        between: What leads from each scale to the next. All tasks share it, and it runs once for each.
        attention: For each task its gates.
        heads: For each task what makes its output.
    """

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.outputs, self.input_size = dict(TASKS), SIZE
        self.trunk, self.between = SegNet(width), Between(width)
        self.attention = nn.ModuleList(Attention(width) for _ in TASKS)
        self.heads = nn.ModuleList(head(task, width, num_classes) for task in TASKS)
        self.log_variances = log_variances()
        initialise(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images ``[N, 3, H, W]`` -> log-probabilities, depth and unit normals, each ``[N, C, H, W]``.

        Raises:
            UserError: The sides of the images are no multiples of 32.
        """
        maps = self.trunk.maps(x)
        return [
            head(attention(maps, self.between))
            for attention, head in zip(self.attention, self.heads, strict=True)
        ]


class Between(nn.Module):
    """Convolutions that lead what a task reads from each scale to the next, in the order in which they run.

    Args:
        width: Channels of the finest scale.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        f = widths(width)
        self.encoder = nn.ModuleList(map(conv, f, [*f[1:], f[-1]]))
        self.decoder = nn.ModuleList(map(conv, f[::-1], [*f[-2::-1], f[0]]))


class Attention(nn.Module):
    """A task's gates, one for each stage of the SegNet, in the order in which they run.

    Each reads the stage's map and, but for the first, what the task reads of the stage before. It gives a
    factor between 0 and 1 for every channel and pixel of the stage's last map.

    Args:
        width: Channels of the finest scale.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        f = widths(width)
        up = [*f[-2::-1], f[0]]  # what the stages up give
        self.encoder = nn.ModuleList(map(_gate, [f[0], *(2 * channels for channels in f[1:])], f))
        self.decoder = nn.ModuleList(
            _gate(read + gives, gives) for read, gives in zip(f[::-1], up, strict=True)
        )

    def forward(self, maps: Maps, between: Between) -> Tensor:
        """What the task reads, ``[N, width, H, W]``: down to the coarsest scale and up again."""
        x: Tensor | None = None
        for (first, last), gate, to_next in zip(maps.encoder, self.encoder, between.encoder, strict=True):
            mask = gate(first if x is None else torch.cat([first, x], 1))
            x = F.max_pool2d(to_next(mask * last), 2)
        assert x is not None
        for (read, last), gate, to_next in zip(maps.decoder, self.decoder, between.decoder, strict=True):
            x = to_next(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))
            x = gate(torch.cat([read, x], 1)) * last
        return x


def _gate(reads: int, gives: int) -> nn.Sequential:
    """Two 1x1 convolutions with BatchNorm, and a sigmoid."""
    return nn.Sequential(
        nn.Conv2d(reads, gives, 1),
        nn.BatchNorm2d(gives),
        nn.ReLU(inplace=True),
        nn.Conv2d(gives, gives, 1),
        nn.BatchNorm2d(gives),
        nn.Sigmoid(),
    )


@builder
def segnet_mtan(num_classes: int = 13, width: int = 64) -> SegNetMTAN:
    """SegNet-MTAN with three outputs, for images whose sides are multiples of 32.

    Its outputs are ``segmentation``, ``depth`` and ``normals``.

    Args:
        num_classes: How many classes the segmentation tells apart.
        width: Channels of the finest scale; the others have 2, 4, 8 and 8 times as many.
    """
    return SegNetMTAN(num_classes, width)
