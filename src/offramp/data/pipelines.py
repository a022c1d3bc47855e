"""The named pipelines: how training images are augmented and all images normalised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from offramp.data.augment import crop, cutout, flip
from offramp.data.autoaugment import autoaugment
from offramp.data.image_data import ImageData, Triple
from offramp.data.stream import StreamSplit
from offramp.errors import UserError, guess

__all__ = ["PIPELINES", "Transform", "pipeline"]

Step = Callable[[Tensor, Generator], Tensor]


@dataclass(frozen=True)
class Transform:
    """uint8 images -> augmented, normalised float32 images.

    Attributes:
        mean: Channel means to subtract, on the scale 0 ... 1.
        std: Channel standard deviations to divide by, likewise.
        steps: Augmentations of uint8 batches, in order.
        resized_crop: Whether a streaming set gives random resized crops rather than centre crops.
    """

    mean: Triple
    std: Triple
    steps: tuple[Step, ...] = ()
    resized_crop: bool = False

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Augment and normalise uint8 ``[B, 3, H, W]``; the CPU generator draws for each image by itself."""
        for step in self.steps:
            images = step(images, generator)
        scale, shift = _affine(self.mean, self.std, images.device)
        return images.float().mul_(scale).add_(shift)


@cache
def _affine(mean: Triple, std: Triple, device: torch.device) -> tuple[Tensor, Tensor]:
    """(level / 255 - mean) / std as one factor and one summand per channel."""
    m, s = (torch.tensor(values, dtype=torch.float64, device=device).view(3, 1, 1) for values in (mean, std))
    return (1 / (255 * s)).float(), (-m / s).float()


class Pipeline(NamedTuple):
    """What is done to training images, and the channel statistics (None: the training set's own)."""

    steps: tuple[Step, ...]
    statistics: tuple[Triple, Triple] | None
    resized_crop: bool = False


# Means and deviations as the published loaders write them. The DFS loader uses CIFAR-10's for CIFAR-100, too.
CIFAR10 = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
CIFAR100 = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

gray_crop = partial(crop, fill=128)

PIPELINES: dict[str, Pipeline] = {
    "none": Pipeline((), None),
    "crop-flip": Pipeline((crop, flip), None),
    "dfs": Pipeline((gray_crop, flip), CIFAR10),
    "dfs-autoaugment": Pipeline((gray_crop, flip, autoaugment, cutout), CIFAR10),
    "msdnet": Pipeline((crop, flip), CIFAR100),
    "imagenet": Pipeline((flip,), IMAGENET, resized_crop=True),
}


def pipeline(name: str, data: ImageData) -> tuple[Transform, Transform]:
    """The training and the evaluation transform of a named pipeline.

    Evaluation normalises as training does, and augments nothing.

    ================  ============================================================  ==================
    name              training images                                               normalised with
    ================  ============================================================  ==================
    none              as they are                                                   the set's own
    crop-flip         crop from 4 pixels of black padding, flip                     the set's own
    dfs               crop from 4 pixels of gray (128) padding, flip                CIFAR-10
    dfs-autoaugment   the same, AutoAugment's CIFAR-10 policy, Cutout 16            CIFAR-10
    msdnet            crop from 4 pixels of black padding, flip                     CIFAR-100
    imagenet          random resized crop (streaming sets only), flip               ImageNet
    ================  ============================================================  ==================

    Cutout's square is 0 before the normalisation.

    Args:
        name: A key of :data:`PIPELINES`.
        data: The set that it is for.

    Raises:
        UserError: No such pipeline, or one that does not fit the set.
    """
    if name not in PIPELINES:
        raise UserError(f"no pipeline {name!r}{guess(name, PIPELINES)}; there are: {', '.join(PIPELINES)}")
    steps, statistics, resized_crop = PIPELINES[name]
    if resized_crop and not (isinstance(data.train, StreamSplit) and data.train.size):
        raise UserError(
            f"pipeline {name!r} cuts images as they are read, and {data.source} is decoded already; "
            "set size in the recipe, e.g. size=224, or open it with open_data(..., size=224)"
        )
    mean, std = statistics or data.statistics
    return Transform(mean, std, steps, resized_crop), Transform(mean, std)
