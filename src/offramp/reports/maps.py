"""What a trained net predicts for every pixel, and the truth (DR-MGF, arXiv:2305.19844, Fig 9)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor

from offramp.data import JointSplit
from offramp.data.batches import Batches
from offramp.errors import UserError
from offramp.modes import evaluating
from offramp.runs import Run
from offramp.runs.sets import recorded_transform
from offramp.tasks import Depth, Normals, Segmentation, Task
from offramp.tasks.outputs import names_in_words
from offramp.tasks.task import wide

__all__ = ["DenseMap", "MappedImage", "predicted_maps"]

DRAWN = (Segmentation, Depth, Normals)
FEW = 4  # images, if nobody says which


class DenseMap(NamedTuple):
    """What an output says about every pixel of an image.

    Attributes:
        output: Its name.
        task: Its task, of segmentation, depth or normals.
        predicted: ``[H, W]`` class indices, or ``[C, H, W]``.
        truth: Likewise; None where the image has no such target.
        value: The task's primary metric of this image alone; None without a truth in any pixel.
    """

    output: str
    task: Task
    predicted: Tensor
    truth: Tensor | None
    value: float | None


@dataclass(frozen=True)
class MappedImage:
    """A test image and its maps.

    Attributes:
        number: Its place in the test set, from 0; several sets count one after the other.
        image: ``[C, H, W]``, from 0 to 1.
        maps: One for each dense output.
        classes: Names of the classes of each output that has some.
    """

    number: int
    image: Tensor
    maps: tuple[DenseMap, ...]
    classes: Mapping[str, Sequence[str]]


def predicted_maps(run: Run, numbers: Sequence[int]) -> list[MappedImage]:
    """Predict the maps of test images.

    Args:
        run: Of a net with a dense output.
        numbers: Places of the images in the test set, from 0; none: the first four. Of several data sets,
            those of the second follow on those of the first, and none stands for the first ones of each.

    Raises:
        UserError: No output predicts segmentation, depth or normals, the test set has no such image, or it
            cannot be opened.
    """
    dense = {name: task for name, task in run.net.outputs.items() if isinstance(task, DRAWN)}
    if not dense:
        raise UserError(
            f"the run's net predicts no maps, its outputs are {names_in_words([*run.net.outputs])}; "
            "train one with the task Segmentation, Depth or Normals; `offramp predict` is for exits"
        )
    data = run.open_data()
    numbers = numbers or _first(data.test)
    if wrong := [number for number in numbers if not 0 <= number < len(data.test)]:
        raise UserError(
            f"there is no test image {wrong[0]}; {data.name} has {len(data.test)}, give numbers from 0 to "
            f"{len(data.test) - 1}"
        )
    transform = recorded_transform(run.record)
    device = next(run.net.parameters()).device
    classes = {name: data.targets[task.target].classes for name, task in dense.items()}
    found = []
    for number in numbers:
        batch = next(data.test.batches(1, transform=transform, device=device, start=number))
        with torch.inference_mode(), evaluating(run.net):
            outputs = dict(zip(run.net.outputs, run.net(batch.inputs), strict=True))
        maps = [
            _map(name, task, outputs[name], batch.targets.get(task.target)) for name, task in dense.items()
        ]
        own = transform.parts[_set_of(data.test, number)] if isinstance(data.test, JointSplit) else transform
        mean, std = (torch.tensor(each)[:, None, None] for each in (own.mean, own.std))
        image = (batch.inputs[0].cpu() * std + mean).clamp(0, 1)
        found.append(MappedImage(number, image, tuple(maps), classes))
    return found


def _first(test: Batches) -> list[int]:
    """Places of the first images, of each set if there are several."""
    parts = [*test.parts.values()] if isinstance(test, JointSplit) else [test]
    places: list[int] = []
    for number, part in enumerate(parts):
        before = sum(map(len, parts[:number]))
        places += range(before, before + min(max(FEW // len(parts), 1), len(part)))
    return places


def _set_of(test: JointSplit, number: int) -> str:
    """The set that the image at a place among all is of."""
    ends = itertools.accumulate(map(len, test.parts.values()))
    return next(name for name, end in zip(test.parts, ends, strict=True) if number < end)


def _map(name: str, task: Task, output: Tensor, target: Tensor | None) -> DenseMap:
    predicted = (output.argmax(1) if isinstance(task, Segmentation) else wide(output))[0].cpu()
    if target is None:
        return DenseMap(name, task, predicted, None, None)
    value = task.metrics(task.counts(output, target).cpu())[task.primary]
    return DenseMap(name, task, predicted, target[0].cpu(), value if isfinite(value) else None)
