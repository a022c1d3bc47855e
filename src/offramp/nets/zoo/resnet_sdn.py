"""ResNet-56 as a Shallow-Deep Network (Kaya et al., ICML 2019)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from offramp.errors import UserError, shown
from offramp.nets.multi_exit import MultiExitNet
from offramp.nets.zoo._sdn import residual_layers, sdn
from offramp.nets.zoo.builder import builder
from offramp.nets.zoo.resnet import BasicBlock

__all__ = ["resnet_sdn"]

_EXITS = (4, 8, 12, 16, 20, 24)


class LaterReLU(nn.ReLU):
    """A ReLU left to the next stage. Counts of operations have it here, as those of the published network."""

    def forward(self, x: Tensor) -> Tensor:
        """The Tensor that comes in, the sum of a block before its last ReLU."""
        return x


class EarlierReLU(nn.Module):
    """The ReLU that a :class:`LaterReLU` has left out."""

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` -> the same shape."""
        return torch.relu(x)


@builder
def resnet_sdn(num_classes: int = 100, width: int = 16, head_reads: str = "sum") -> MultiExitNet:
    """Three groups of nine residual blocks, seven exits, for 32x32 images.

    Args:
        num_classes: Size of each exit's logits.
        width: Channels of the first group; the others have 2 and 4 times as many.
        head_reads: What an internal classifier reads of the block before it: the ``sum`` of its two branches,
            as published, or what the block's last ``relu`` makes of it. The weights have the same names.

    Raises:
        UserError: It reads neither.
    """
    if head_reads not in ("sum", "relu"):
        raise UserError(f"head_reads of resnet_sdn is sum or relu, got {shown(head_reads)}")
    conv = nn.Conv2d(3, width, 3, padding=1, bias=False)
    stem = nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())
    widths = (width, 2 * width, 4 * width)
    layers = list(residual_layers(BasicBlock, width, widths, blocks=9))
    end = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(4 * width, num_classes))
    net = sdn(layers, _EXITS, end, num_classes=num_classes, stem=stem)
    if head_reads == "sum":
        for k in range(1, net.num_exits):
            [*net.stages[k - 1].children()][-1].relu = LaterReLU()
            parts = net.stages[k].named_children()  # which keep their names
            net.stages[k] = nn.Sequential(OrderedDict([("relu", EarlierReLU()), *parts]))
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return net
