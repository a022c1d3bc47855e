"""A small net, a small set and a short recipe, on which a device can be held to the CPU."""

from __future__ import annotations

import torch
from torch import nn

import offramp.nets
from offramp import Recipe
from offramp.data import ImageData, Split, Target

__all__ = ["CLASSES", "RECIPE", "SIZE", "noise", "small_net"]

CLASSES, SIZE, BATCH, STEPS = 10, 32, 32, 3
RECIPE = Recipe(epochs=1, batch_size=BATCH, lr=0.02, schedule="constant", channels_last=False)


def small_net(width: int = 8) -> offramp.nets.MultiExitNet:
    """VGG7, the same values every time, and smooth.

    With tanh and mean pooling in the place of ReLU and max pooling no unit switches because of a rounding
    error, so that the gradients of two devices differ by roundings alone. With small heads no gradient
    reaches 1, where float16 overflows at the scale that a GradScaler starts with, and the step is skipped.
    """
    torch.manual_seed(0)
    net = offramp.nets.vgg7(num_classes=CLASSES, width=width)
    net.input_size = (3, SIZE, SIZE)
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU):
                setattr(parent, name, nn.Tanh())
            elif isinstance(child, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(child.kernel_size, child.stride))
    with torch.no_grad():
        for head in net.heads:
            head[-1].weight.mul_(0.25)
    return net


def noise(split: type[Split] = Split, *, count: int = BATCH * STEPS) -> ImageData:
    """Noise whose brightness tells the class."""
    draws = torch.Generator().manual_seed(5)

    def part(size: int, kind: type[Split] = Split) -> Split:
        labels = torch.randint(CLASSES, (size,), generator=draws)
        images = torch.randint(0, 120, (size, 3, SIZE, SIZE), generator=draws)
        return kind((images + 13 * labels[:, None, None, None]).to(torch.uint8), {"label": labels})

    test = part(2 * BATCH)
    return ImageData(
        name="noise",
        source="noise",
        targets={"label": Target("class", tuple(map(str, range(CLASSES))))},
        train=part(count, split),
        val=part(BATCH),
        load_test=lambda: test,
    )
