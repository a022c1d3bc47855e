"""VGG16 with batch norm as a Shallow-Deep Network (Kaya et al., ICML 2019)."""

from __future__ import annotations

import math

from torch import nn

from offramp.nets.multi_exit import MultiExitNet
from offramp.nets.zoo._sdn import Layer, sdn
from offramp.nets.zoo.builder import builder

__all__ = ["vgg_sdn"]

_CHANNELS = (1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 8, 8, 8)  # of each convolution, in widths
_POOLED = (2, 4, 7, 10, 13)  # the convolutions with a 2x2 max-pool behind
_EXITS = (2, 4, 6, 7, 9, 10)


@builder
def vgg_sdn(num_classes: int = 100, width: int = 64) -> MultiExitNet:
    """Thirteen convolutions of width to 8 width channels, seven exits, for 32x32 images.

    A layer is conv3x3 - BatchNorm - ReLU; the last head has two hidden layers and dropout 0.5.

    Args:
        num_classes: Size of each exit's logits.
        width: Channels of the first two convolutions.
    """
    layers: list[Layer] = []
    reads, side = 3, 32
    for number, factor in enumerate(_CHANNELS, start=1):
        channels = factor * width
        parts = [nn.Conv2d(reads, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
        if number in _POOLED:
            parts.append(nn.MaxPool2d(2))
            side //= 2
        layers.append(Layer(nn.Sequential(*parts), channels, side))
        reads = channels
    end = nn.Sequential(
        nn.Flatten(),
        nn.Linear(reads, reads),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(reads, reads),
        nn.Dropout(0.5),
        nn.Linear(reads, num_classes),
    )
    net = sdn(layers, _EXITS, end, num_classes=num_classes)
    std = 0.01 * math.sqrt(64 / width)  # as published at width 64, and no fainter logits below
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=std)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    return net
