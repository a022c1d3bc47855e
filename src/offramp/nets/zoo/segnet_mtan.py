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
        between: The convolutions from each scale to the next, on the way down and up. All tasks share them;
            they run once for each task.
        gates: For each task its :class:`Gates`.
        heads: For each task what makes its output.
    """

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.outputs, self.input_size = dict(TASKS), SIZE
        self.trunk, self.between = SegNet(width), _Between(width)
        self.gates = nn.ModuleList(Gates(width) for _ in TASKS)
        self.heads = nn.ModuleList(head(task, width, num_classes) for task in TASKS)
        self.log_variances = log_variances()
        initialise(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images ``[N, 3, H, W]`` -> log-probabilities, depth and unit normals, each ``[N, C, H, W]``.

        Raises:
            UserError: The sides of the images are no multiples of 32.
        """
        maps = self.trunk.maps(x)
        return [head(self._attended(maps, gates)) for gates, head in zip(self.gates, self.heads, strict=True)]

    def _attended(self, maps: Maps, gates: Gates) -> Tensor:
        """What a task reads of the trunk's maps, from the finest scale down to the coarsest and up again."""
        x = None
        down = zip(maps.encoder, gates.encoder, self.between.encoder, strict=True)
        up = zip(maps.decoder, gates.decoder, self.between.decoder, strict=True)
        for (first, last), gate, to_next in down:
            mask = gate(first if x is None else torch.cat([first, x], 1))
            x = F.max_pool2d(to_next(mask * last), 2)
        for (read, last), gate, to_next in up:
            x = to_next(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))
            x = gate(torch.cat([read, x], 1)) * last
        assert x is not None
        return x


class _Between(nn.Module):
    """Convolutions that lead what a task reads from each scale to the next."""

    def __init__(self, width: int) -> None:
        super().__init__()
        f = widths(width)
        self.encoder = nn.ModuleList(map(conv, f, [*f[1:], f[-1]]))
        self.decoder = nn.ModuleList(map(conv, f[::-1], [*f[-2::-1], f[0]]))


class Gates(nn.Module):
    """A task's gates, one per stage of the SegNet, in the order in which they run.

    Each reads the stage's map and, but for the first, what the task reads of the stage before.

    Args:
        width: Channels of the finest scale.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        f = widths(width)
        gives = [*f[-2::-1], f[0]]  # of the stages up
        self.encoder = nn.ModuleList(map(_gate, [f[0], *(2 * channels for channels in f[1:])], f))
        self.decoder = nn.ModuleList(
            _gate(unpooled + attended, attended) for unpooled, attended in zip(f[::-1], gives, strict=True)
        )


def _gate(reads: int, gives: int) -> nn.Sequential:
    """Two 1x1 convolutions to a factor between 0 and 1 for every channel and pixel."""
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
