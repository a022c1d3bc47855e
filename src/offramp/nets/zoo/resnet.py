"""ResNet18 with four exits and attention heads (Zhang et al., "Self-Distillation", TPAMI 2021).

A stage is two residual blocks at one resolution; the first also holds the stem, a 3x3 convolution with
stride 1 and no max-pool. The three early heads weigh the feature by an attention map and bring it with
depthwise separable convolutions to the width and resolution of the last stage.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from offramp.nets.multi_exit import MultiExitNet
from offramp.nets.zoo.builder import builder

__all__ = ["resnet18"]


@builder
def resnet18(num_classes: int = 100, width: int = 64) -> MultiExitNet:
    """ResNet18 for 32x32 images (sides must be multiples of 16), exits shallow first.

    Args:
        num_classes: Size of each exit's logits.
        width: Channels of the first stage; the others have 2, 4 and 8 times as many.
    """
    widths = [width, 2 * width, 4 * width, 8 * width]
    stem = [*_conv_norm(3, width, 3), nn.ReLU()]
    stages = [nn.Sequential(*stem, BasicBlock(width, width), BasicBlock(width, width))]
    for reads, channels in itertools.pairwise(widths):
        stages.append(nn.Sequential(BasicBlock(reads, channels, stride=2), BasicBlock(channels, channels)))
    heads = [_attention_head(channels, widths[-1], num_classes) for channels in widths[:-1]]
    heads.append(nn.Sequential(*_classifier(widths[-1], num_classes)))
    net = MultiExitNet(stages, heads, convention="thop")
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return net


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, reads: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.main = nn.Sequential(
            *_conv_norm(reads, channels, 3, stride), nn.ReLU(), *_conv_norm(channels, channels, 3)
        )
        same = stride == 1 and reads == channels
        self.shortcut = nn.Sequential() if same else nn.Sequential(*_conv_norm(reads, channels, 1, stride))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """``[N, reads, H, W]`` -> ``[N, channels, H / stride, W / stride]``."""
        output: Tensor = self.relu(self.main(x) + self.shortcut(x))
        return output


class Attention(nn.Module):
    """A feature weighed by its own attention map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.map = nn.Sequential(
            _separable(channels, channels),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[N, channels, H, W]``, with even H and W -> the same shape."""
        weighed: Tensor = self.map(x) * x
        return weighed


def _attention_head(channels: int, last: int, num_classes: int) -> nn.Sequential:
    """An early exit: attention, then down to the last stage's width and resolution, then the classifier."""
    layers: list[nn.Module] = [Attention(channels)]
    while channels < last:
        layers.append(_separable(channels, 2 * channels))
        channels *= 2
    return nn.Sequential(*layers, *_classifier(last, num_classes))


def _separable(reads: int, channels: int) -> nn.Sequential:
    """Two depthwise separable 3x3 convolutions; the first halves the resolution."""
    return nn.Sequential(
        nn.Conv2d(reads, reads, 3, stride=2, padding=1, groups=reads, bias=False),
        *_conv_norm(reads, reads, 1),
        nn.ReLU(),
        nn.Conv2d(reads, reads, 3, padding=1, groups=reads, bias=False),
        *_conv_norm(reads, channels, 1),
        nn.ReLU(),
    )


def _conv_norm(reads: int, channels: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(reads, channels, kernel, stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(channels)]


def _classifier(channels: int, num_classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)]
