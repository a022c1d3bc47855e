"""A tiny net of two tasks and images with both targets, one of which some images lack."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from offramp.data import ImageData, Split, Target, TargetTensors
from offramp.data._order import batch_order
from offramp.nets import MultiTaskNet, owners
from offramp.tasks import Boxes, Classification, Task

KINDS = {"class": Target("class", ("dark", "gray", "bright")), "box": Target("box")}
TASKS = {"class": Classification(target="class"), "box": Boxes(target="box")}


class TwoHeads(nn.Module):
    """A trunk of one convolution with a linear head for each task."""

    input_size = (3, 8, 8)

    def __init__(self, tasks: Mapping[str, Task] = TASKS, sizes: tuple[int, ...] = (3, 4)) -> None:
        super().__init__()
        self.outputs = dict(tasks)
        self.trunk = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Flatten())
        self.heads = nn.ModuleList(nn.Linear(96, size) for size in sizes)

    def forward(self, x: Tensor) -> list[Tensor]:
        feature = self.trunk(x)
        return [head(feature) for head in self.heads]

    def owners(self) -> dict[str, frozenset[int]]:
        return owners(self, torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)))


def two_heads(seed: int = 0) -> TwoHeads:
    torch.manual_seed(seed)
    return TwoHeads()


def two_decoders(seed: int = 0) -> MultiTaskNet:
    """The same tasks on a fork: a map of 6 channels, which two decoders read."""
    torch.manual_seed(seed)
    decoders = [nn.Sequential(nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, n)) for n in (3, 4)]
    trunk = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU())
    return MultiTaskNet([trunk], decoders, TASKS, input_size=(3, 8, 8))


def samples(count: int, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """Dark images with a bright rectangle, its box, and as class how bright it is."""
    draws = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 60, (count, 3, 8, 8), generator=draws, dtype=torch.uint8)
    labels = torch.randint(3, (count,), generator=draws)
    corner, side = (torch.randint(1, 5, (count, 2), generator=draws) for _ in range(2))
    for image, label, (y, x), (h, w) in zip(images, labels, corner, side, strict=True):
        image[:, y : y + h, x : x + w] += 60 * (1 + label).to(torch.uint8)
    boxes = torch.cat([corner.flip(1), (corner + side).flip(1).clamp(max=8)], 1) / 8
    return images, {"class": labels, "box": boxes}


def on_one_rank(batch_size: int, *, seed: int = 0, batches: int = 6) -> ImageData:
    """Boxes for the samples alone that the first of two processes gets; a batch of the first epoch has none.

    Args:
        batch_size: Of both processes together.
        seed: The recipe's.
        batches: How many an epoch has.
    """

    def split(size: int, first: Tensor, samples_seed: int) -> Split:
        images, targets = samples(size, samples_seed)
        boxes = torch.full((size, 4), torch.nan)
        boxes[first] = targets["box"][first]
        return Split(images, TargetTensors({**targets, "box": boxes}, KINDS))

    order = list(batch_order(batch_size * batches, batch_size, seed=seed, shuffle=True))
    first = torch.cat([index[::2] for number, index in order if number != 2])
    return ImageData(
        name="sided", source="sided", targets=KINDS, train=split(batch_size * batches, first, 1),
        val=split(8, torch.arange(0, 8, 2), 2), load_test=lambda: split(12, torch.arange(0, 12, 2), 3),
    )  # fmt: skip


def two_targets(count: int = 24, *, lack: float = 0.0, split: type[Split] = Split) -> ImageData:
    """Three splits of such images, of which a share lacks each target."""

    def part(size: int, seed: int, split: type[Split] = Split) -> Split:
        images, targets = samples(size, seed)
        draws = torch.Generator().manual_seed(seed)
        targets["class"][torch.rand(size, generator=draws) < lack] = -100
        targets["box"][torch.rand(size, generator=draws) < lack] = torch.nan
        return split(images, TargetTensors(targets, KINDS))

    return ImageData(
        name="shapes", source="shapes", targets=KINDS, train=part(count, 1, split), val=part(8, 2),
        load_test=lambda: part(12, 3),
    )  # fmt: skip
