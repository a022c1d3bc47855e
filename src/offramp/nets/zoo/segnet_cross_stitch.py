"""Cross-stitched SegNets: one for each task, which mix their maps at every scale.

Misra, Shrivastava, Gupta, Hebert, "Cross-stitch Networks for Multi-task Learning", CVPR 2016, in the form
that Liu, Johns, Davison (CVPR 2019) compare with: at each scale all SegNets read the same sum of their maps,
with one learned factor for each of them, which starts at 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from offramp.nets.net import Net
from offramp.nets.zoo._segnet import (
    SIZE,
    TASKS,
    SegNet,
    check_sides,
    head,
    initialise,
    log_variances,
    pooled,
    unpooled,
)
from offramp.nets.zoo.builder import builder

__all__ = ["SegNetCrossStitch", "segnet_cross_stitch"]


class SegNetCrossStitch(Net):
    """A SegNet for each task; behind every pooling, and before every unpooling, all read one sum of maps.

    Each unpools to its own places.

    Args:
        num_classes: How many classes the segmentation tells apart.
        width: Channels of the finest scale.

    Attributes:
        trunks: For each task its SegNet.
        encoder_factors: For each stage down but the last the factor of each SegNet's pooled map, ``[4, 3]``.
        decoder_factors: For each stage up the factor of what each SegNet made before, ``[5, 3]``.
        heads: For each task what makes its output.
    """

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.outputs, self.input_size = dict(TASKS), SIZE
        self.trunks = nn.ModuleList(SegNet(width) for _ in TASKS)
        self.encoder_factors = nn.Parameter(torch.ones(4, len(TASKS)))
        self.decoder_factors = nn.Parameter(torch.ones(5, len(TASKS)))
        self.heads = nn.ModuleList(head(task, width, num_classes) for task in TASKS)
        self.log_variances = log_variances()
        initialise(self, nn.init.xavier_uniform_)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images ``[N, 3, H, W]`` -> log-probabilities, depth and unit normals, each ``[N, C, H, W]``.

        Raises:
            UserError: The sides of the images are no multiples of 32.
        """
        check_sides(x)
        down = zip(*(trunk.encoder for trunk in self.trunks), strict=True)
        up = zip(*(trunk.decoder for trunk in self.trunks), strict=True)
        maps: Sequence[Tensor] = ()
        places: list[Sequence[Tensor]] = []
        for k, stages in enumerate(down):
            if k:
                x = _mixed(maps, self.encoder_factors[k - 1])
            maps, own = zip(*(pooled(stage(x)[1]) for stage in stages), strict=True)
            places.append(own)
        for stages, factors in zip(up, self.decoder_factors, strict=True):
            x = _mixed(maps, factors)
            maps = [stage(unpooled(x, own))[1] for stage, own in zip(stages, places.pop(), strict=True)]
        return [head(x) for head, x in zip(self.heads, maps, strict=True)]


def _mixed(maps: Sequence[Tensor], factors: Tensor) -> Tensor:
    """The sum of some maps, each times its factor."""
    mixed: Tensor = reduce(torch.add, (factor * x for factor, x in zip(factors, maps, strict=True)))
    return mixed


@builder
def segnet_cross_stitch(num_classes: int = 13, width: int = 64) -> SegNetCrossStitch:
    """Three cross-stitched SegNets with an output each, for images whose sides are multiples of 32.

    Its outputs are ``segmentation``, ``depth`` and ``normals``.

    Args:
        num_classes: How many classes the segmentation tells apart.
        width: Channels of the finest scale; the others have 2, 4, 8 and 8 times as many.
    """
    return SegNetCrossStitch(num_classes, width)
