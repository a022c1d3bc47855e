"""VGG16 with batch norm as a Shallow-Deep Network (Kaya et al., ICML 2019)."""

from __future__ import annotations

from torch import nn

from offramp.nets.builder import builder
from offramp.nets.multi_exit import MultiExitNet
from offramp.nets.sdn import Layer, image_scale, sdn

__all__ = ["vgg_sdn"]

_CHANNELS = (1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 8, 8, 8)  # of each convolution, in widths
_POOLED = (2, 4, 7, 10, 13)  # the convolutions with a 2x2 max-pool behind
_EXITS = (2, 4, 6, 7, 9, 10)
_HIDDEN = {1: (8, 8), 2: (32, 16)}  # the last head's two hidden layers, in widths


@builder
def vgg_sdn(num_classes: int = 100, width: int = 64, *, size: int = 32) -> MultiExitNet:
    """Thirteen convolutions of width to 8 width channels, seven exits, for 32x32 or 64x64 images.

    A layer is conv3x3 - BatchNorm - ReLU; the last head has two hidden layers and dropout 0.5.

    Args:
        num_classes: Size of each exit's logits.
        width: Channels of the first two convolutions.
        size: Side of the images, 32 or 64 pixels.

    Raises:
        UserError: Another size.
    """
    scale = image_scale(size)
    layers: list[Layer] = []
    reads, side = 3, size
    for number, factor in enumerate(_CHANNELS, start=1):
        channels = factor * width
        parts = [nn.Conv2d(reads, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
        if number in _POOLED:
            parts.append(nn.MaxPool2d(2))
            side //= 2
        layers.append(Layer(nn.Sequential(*parts), channels, side))
        reads = channels
    first, second = (factor * width for factor in _HIDDEN[scale])
    end = nn.Sequential(
        nn.Flatten(),
        nn.Linear(reads * side**2, first),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(first, second),
        nn.Dropout(0.5),
        nn.Linear(second, num_classes),
    )
    net = sdn(layers, _EXITS, end, num_classes=num_classes, size=size)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    return net
