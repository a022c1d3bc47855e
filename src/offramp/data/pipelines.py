"""The named pipelines: augmentation of training images and normalisation of all images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from offramp.checks import described, is_number, of_kind, word_of
from offramp.data._augment import Augmentation, crop, cutout, flip, of_images, zoom
from offramp.data._autoaugment import autoaugment
from offramp.data._mixing import Mix
from offramp.data._statistics import Levels
from offramp.data.batch import Batch
from offramp.data.image_data import SAMPLE, ImageData
from offramp.data.opened import OpenedData
from offramp.data.stream import StreamSplit
from offramp.data.target_tensors import TargetTensors
from offramp.data.targets import ONE_CLASS, Target
from offramp.data.text_data import TextData
from offramp.errors import UserError, shown

__all__ = ["PIPELINES", "Transform", "default_pipeline", "pipeline"]


@dataclass(frozen=True)
class Transform:
    """Turns a batch of images into augmented, normalised float32 images, with their targets.

    Attributes:
        mean: Channel means to subtract; levels 0 ... 255 count on the scale 0 ... 1, floats on their own. An
            empty tuple leaves inputs as they are, as those of texts.
        std: Channel standard deviations to divide by, likewise.
        steps: Augmentations of images ``[B, C, H, W]`` and what moves with them, in order.
        resized_crop: Whether a streaming set gives random resized crops rather than centre crops.
        mix: Mixes the samples of a batch with each other at the end, targets too; None leaves them apart.
        kinds: What each target is.

    Raises:
        UserError: Means and deviations are not as many or not finite, or a deviation is not above 0.
    """

    mean: Levels
    std: Levels
    steps: tuple[Augmentation, ...] = ()
    resized_crop: bool = False
    mix: Callable[[Batch, Generator], Batch] | None = None
    kinds: Mapping[str, Target] = field(default_factory=lambda: ONE_CLASS)

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            levels = getattr(self, name)
            of_kind(name, levels, tuple | list, "one number for each channel")
        of_kind("steps", self.steps, tuple, "a tuple of augmentations")
        numbers = all(is_number(value) for value in (*self.mean, *self.std))
        if len(self.mean) != len(self.std) or not numbers or not all(value > 0 for value in self.std):
            raise UserError(
                f"a normalisation by means {shown(self.mean)} and deviations {shown(self.std)}; give a "
                "finite number of each for every channel, the deviations above 0"
            )

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """Augment and normalise images ``[B, C, H, W]``, uint8 or float32; the CPU generator draws for each.

        Raises:
            UserError: An augmentation would move the images away from targets of an unknown kind.
        """
        if not self.mean:
            return batch
        if not isinstance(batch.inputs, Tensor):
            raise UserError("images are augmented, and these inputs are named ones; take `augment='none'`")
        moves = self.steps or self.resized_crop
        left_behind = [name for name in batch.targets if name not in self.kinds] if moves else []
        if left_behind:
            raise UserError(
                f"augmentation would move the images and not their {', '.join(left_behind)}; "
                "take `augment='none'`"
            )
        for step in self.steps:
            batch = step(batch, generator, self.kinds)
        assert isinstance(batch.inputs, Tensor)
        if batch.inputs.shape[1] != len(self.mean):
            raise UserError(
                f"the normalisation has {len(self.mean)} channels, the images {batch.inputs.shape[1]}; "
                "give a mean and a deviation for each channel"
            )
        batch = replace(batch, inputs=self._normalised(batch.inputs))
        return batch if self.mix is None else self.mix(batch, generator)

    def images(self, images: Tensor, generator: Generator) -> Tensor:
        """The images ``[B, C, H, W]`` alone, augmented and normalised."""
        inputs = replace(self, mix=None)(Batch(images, {}), generator).inputs
        assert isinstance(inputs, Tensor)
        return inputs

    def _normalised(self, images: Tensor) -> Tensor:
        if images.is_floating_point():
            mean, std = (torch.tensor(v, device=images.device).view(-1, 1, 1) for v in (self.mean, self.std))
            return (images - mean) / std
        scale, shift = _affine(self.mean, self.std, images.device)
        return images.float().mul_(scale).add_(shift)


@cache
def _affine(mean: Levels, std: Levels, device: torch.device) -> tuple[Tensor, Tensor]:
    """(level / 255 - mean) / std as one factor and one summand per channel."""
    m, s = (torch.tensor(values, dtype=torch.float64, device=device).view(-1, 1, 1) for values in (mean, std))
    return (1 / (255 * s)).float(), (-m / s).float()


class Pipeline(NamedTuple):
    """A named pipeline: augmentation of training images, and channel statistics (None: the set's own)."""

    steps: tuple[Augmentation, ...]
    statistics: tuple[Levels, Levels] | None
    resized_crop: bool = False


# Means and deviations as the published loaders write them. The DFS loader uses CIFAR-10's for CIFAR-100, too.
CIFAR10 = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
CIFAR100 = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AS_THEY_ARE: tuple[Levels, Levels] = (0.0,), (1.0,)  # of every channel

gray_crop = partial(crop, fill=128)
colours_and_shapes = of_images(autoaugment)

OPENED = "what offramp.open_data returns"

PIPELINES: dict[str, Pipeline] = {
    "none": Pipeline((), None),
    "crop-flip": Pipeline((crop, flip), None),
    "dfs": Pipeline((gray_crop, flip), CIFAR10),
    "dfs-autoaugment": Pipeline((gray_crop, flip, colours_and_shapes, of_images(cutout)), CIFAR10),
    "msdnet": Pipeline((crop, flip), CIFAR100),
    "imagenet": Pipeline((flip,), IMAGENET, resized_crop=True),
    "nyuv2": Pipeline((zoom, flip), AS_THEY_ARE),
}


def pipeline(
    name: str | None, data: OpenedData[Any], *, mixup: float = 0.0, cutmix: float = 0.0
) -> tuple[Transform, Transform]:
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
    nyuv2             a part cut out and resized by 1, 1.2 or 1.5, flip             nothing
    ================  ============================================================  ==================

    Cutout's square is 0 before the normalisation. Floats are padded with the same share of the scale 0 ... 1.
    ``nyuv2`` is the augmentation of MTAN: depth is divided by the scale, a flip negates the normals' x, and
    levels of 8 bits go from 0 to 1.

    Args:
        name: A key of :data:`PIPELINES`; None: ``crop-flip``, where pixels have targets ``nyuv2``, and for
            texts ``none``: they have no other.
        data: The set that it is for.
        mixup: alpha of mixup, which mixes training images with each other
            (:mod:`offramp.data._mixing`); 0: none.
        cutmix: alpha of CutMix, likewise.

    Raises:
        UserError: No such pipeline, or one that does not fit the set.
    """
    of_kind("data", data, OpenedData, OPENED)
    for key, alpha in (("mixup", mixup), ("cutmix", cutmix)):
        if not is_number(alpha) or alpha < 0:
            raise UserError(f"{key} is {described(alpha)}, must be a number of 0 or more")
    name = default_pipeline(data) if name is None else word_of("name", name, PIPELINES, "pipeline")
    if not isinstance(data, ImageData):
        return _of_texts(name, mixup=mixup, cutmix=cutmix)
    steps, statistics, resized_crop = PIPELINES[name]
    _check_moves(name, steps, resized_crop, data)
    if resized_crop and not (isinstance(data.train, StreamSplit) and data.train.size):
        raise UserError(
            f"pipeline {shown(name)} cuts images as they are read, and {data.source} is decoded already; "
            "cut them as they are read, e.g. by `size=224`"
        )
    mean, std = statistics or data.statistics
    if statistics == AS_THEY_ARE:
        mean, std = mean * data.input_size[0], std * data.input_size[0]
    elif statistics:
        _check_published(name, steps, data)
    mix = Mix(_mixable(data), mixup, cutmix) if mixup or cutmix else None
    return Transform(mean, std, steps, resized_crop, mix, data.targets), Transform(mean, std)


def default_pipeline(data: OpenedData[Any]) -> str:
    """The pipeline of a set for which none is named."""
    of_kind("data", data, OpenedData, OPENED)
    if isinstance(data, TextData):
        return "none"
    return "nyuv2" if data.dense else "crop-flip"


def _of_texts(name: str, **mixing: float) -> tuple[Transform, Transform]:
    asked = [
        *([f"augment={shown(name)}"] if name != "none" else []),
        *(key for key, a in mixing.items() if a),
    ]
    if asked:
        raise UserError(f"{asked[0]} is for images, and the data are texts; leave it out")
    return Transform((), ()), Transform((), ())


def _check_moves(name: str, steps: tuple[Augmentation, ...], resized_crop: bool, data: ImageData) -> None:
    """Check that what a pipeline does to images can be done to their targets.

    Raises:
        UserError: It cannot.
    """
    left_behind = [
        key
        for key, target in data.targets.items()
        if (target.spatial and colours_and_shapes in steps) or (target.dense and resized_crop)
    ]
    if left_behind:
        raise UserError(
            f"pipeline {shown(name)} moves images, and cannot move their {', '.join(left_behind)} along; "
            "take `augment='crop-flip'`, which can, or `augment='none'`"
        )


def _mixable(data: ImageData) -> Mapping[str, Target]:
    """What the targets are, if those of several images can be mixed.

    Raises:
        UserError: One of them cannot.
    """
    for key, target in data.targets.items():
        if target.kind not in ("class", "labels"):
            raise UserError(
                f"mixup and cutmix mix the classes of images, and {shown(key)} of {data.name} is no class; "
                "leave them out"
            )
    if not isinstance(data.train.targets, TargetTensors) or not data.train.targets.complete:
        raise UserError(
            f"mixup and cutmix mix the classes of images, and some of {data.name} have none; leave them out"
        )
    return data.targets


def _check_published(name: str, steps: tuple[Augmentation, ...], data: ImageData) -> None:
    """Check that published statistics, and operations that count levels, are meant for such images.

    Raises:
        UserError: They are not.
    """
    remedy = "take `augment='crop-flip'`, which goes by the set's own statistics"
    if data.input_size[0] != 3:
        raise UserError(
            f"pipeline {shown(name)} has statistics of RGB images, {data.name} has {data.input_size[0]} "
            f"channels; {remedy}"
        )
    if data.train.dtype == torch.uint8:
        return
    if colours_and_shapes in steps:
        raise UserError(f"pipeline {shown(name)} works on levels of 8 bits, {data.name} has floats; {remedy}")
    images = data.train.sample(SAMPLE)
    if images.min() < 0 or images.max() > 1:
        raise UserError(
            f"pipeline {shown(name)} has statistics of images from 0 to 1, {data.name} goes from "
            f"{images.min():.3g} to {images.max():.3g}; {remedy}"
        )
