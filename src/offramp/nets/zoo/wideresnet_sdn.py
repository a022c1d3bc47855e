"""WideResNet-32-4 as a Shallow-Deep Network (Kaya et al., ICML 2019)."""

from __future__ import annotations

from torch import Tensor, nn

from offramp.nets.multi_exit import MultiExitNet
from offramp.nets.zoo._sdn import residual_layers, sdn
from offramp.nets.zoo.builder import builder

__all__ = ["wideresnet_sdn"]

_EXITS = (3, 5, 7, 9, 11, 13)


@builder
def wideresnet_sdn(num_classes: int = 100, width: int = 16) -> MultiExitNet:
    """Three groups of five pre-activation blocks, seven exits, for 32x32 images.

    The internal classifiers read the plain sums of the blocks; before the last head there is a BatchNorm
    and a ReLU.

    Args:
        num_classes: Size of each exit's logits.
        width: Channels of the stem; the groups have 4, 8 and 16 times as many.
    """
    stem = nn.Conv2d(3, width, 3, padding=1)
    widths = (4 * width, 8 * width, 16 * width)
    layers = list(residual_layers(PreActivationBlock, width, widths, blocks=5))
    last = widths[-1]
    end = nn.Sequential(
        nn.BatchNorm2d(last), nn.ReLU(), nn.AvgPool2d(8), nn.Flatten(), nn.Linear(last, num_classes)
    )
    net = sdn(layers, _EXITS, end, num_classes=num_classes, stem=stem)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
    return net


class PreActivationBlock(nn.Module):
    """BatchNorm - ReLU - conv3x3, twice, with dropout 0.3 in between, and a shortcut from before them."""

    def __init__(self, reads: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.BatchNorm2d(reads),
            nn.ReLU(),
            nn.Conv2d(reads, channels, 3, padding=1),
            nn.Dropout(0.3),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, stride, padding=1),
        )
        same = stride == 1 and reads == channels
        self.shortcut = nn.Sequential() if same else nn.Conv2d(reads, channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, reads, H, W]`` -> ``[N, channels, H / stride, W / stride]``."""
        output: Tensor = self.main(x) + self.shortcut(x)
        return output
