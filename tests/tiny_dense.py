"""A tiny net for segmentation, depth and normals, and images whose targets follow from their pixels."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

import offramp
from offramp.data import ImageData, Split, Target, TargetTensors
from offramp.nets import MultiTaskNet
from offramp.tasks import Depth, Normals, Segmentation

SIZE = (3, 6, 8)
CLASSES = ("floor", "wall", "chair")
TARGETS = {
    "segmentation": Target("segmentation", CLASSES),
    "depth": Target("depth"),
    "normals": Target("normals"),
}


class Unit(nn.Module):
    """Vectors of length 1 along the channels."""

    def forward(self, x):
        return F.normalize(x, dim=1)


def dense_net(seed: int = 0, *, plain: bool = False) -> MultiTaskNet:
    """A convolution, batch norm and dropout unless it is plain, and a convolution for each of three tasks."""
    torch.manual_seed(seed)
    more = [] if plain else [nn.BatchNorm2d(6), nn.Dropout(0.1)]
    trunk = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), *more, nn.ReLU())
    decoders = {
        "segmentation": (nn.Conv2d(6, len(CLASSES), 1), Segmentation()),
        "depth": (nn.Conv2d(6, 1, 1), Depth()),
        "normals": (nn.Sequential(nn.Conv2d(6, 3, 1), Unit()), Normals()),
    }
    return offramp.multi_task(trunk, decoders, input_size=SIZE)


def dense_data(*, train: int = 20, val: int = 0, test: int = 7, split: type[Split] = Split) -> ImageData:
    """Noise; its channels tell class, depth and normal of each pixel, of which a tenth are unknown."""
    draws = torch.Generator().manual_seed(3)

    def samples(count: int) -> tuple[torch.Tensor, TargetTensors]:
        images = torch.rand(count, *SIZE, generator=draws)
        unknown = torch.rand(count, *SIZE[1:], generator=draws) < 0.1
        tensors = {
            "segmentation": images.argmax(1).masked_fill(unknown, -1),
            "depth": (1 + images.sum(1, keepdim=True)).masked_fill(unknown[:, None], 0),
            "normals": F.normalize(images, dim=1).masked_fill(unknown[:, None], 0),
        }
        return images, TargetTensors(tensors, TARGETS)

    parts = [split(*samples(train)), Split(*samples(val)), Split(*samples(test))]
    return ImageData(
        name="maps", source="maps", targets=TARGETS, train=parts[0], val=parts[1], load_test=lambda: parts[2]
    )
