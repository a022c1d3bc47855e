"""ResNet-56 as a Shallow-Deep Network (Kaya et al., ICML 2019)."""

from __future__ import annotations

from torch import nn

from offramp.nets.builder import builder
from offramp.nets.multi_exit import MultiExitNet
from offramp.nets.resnet import BasicBlock
from offramp.nets.sdn import residual_layers, sdn

__all__ = ["resnet_sdn"]

_EXITS = (4, 8, 12, 16, 20, 24)


@builder
def resnet_sdn(num_classes: int = 100, width: int = 16) -> MultiExitNet:
    """Three groups of nine residual blocks, seven exits, for 32x32 images.

    Args:
        num_classes: Size of each exit's logits.
        width: Channels of the first group; the others have 2 and 4 times as many.
    """
    conv = nn.Conv2d(3, width, 3, padding=1, bias=False)
    stem = nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())
    widths = (width, 2 * width, 4 * width)
    layers = list(residual_layers(BasicBlock, width, widths, blocks=9))
    end = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(4 * width, num_classes))
    net = sdn(layers, _EXITS, end, num_classes=num_classes, stem=stem)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return net
