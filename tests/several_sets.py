"""Two small data sets of other images, sizes and lengths, and nets that learn a task on each."""

from __future__ import annotations

import torch
from torch import nn

import offramp
from offramp.data import ImageData, Split, Target, TargetTensors
from offramp.tasks import Boxes, Classification

SIZES = {"kind": (1, 6, 6), "box": (1, 8, 7)}
TARGETS = {"kind": Target("class", ("a", "b", "c")), "box": Target("box")}


def samples(key, count, seed=0):
    """Images, and targets that can be read off them."""
    random = torch.Generator().manual_seed(seed)
    images = torch.rand(count, *SIZES[key], generator=random)
    levels = images.mean((1, 2, 3))
    if key == "kind":
        return images, {key: levels.argsort().argsort() * 3 // count}
    corner = levels[:, None].expand(-1, 2) / 2
    return images, {key: torch.cat([corner, corner + 0.4], 1)}


def one_set(key, train=30, split=Split, seed=0):
    """A set with one target, under a key of its own."""
    parts = {}
    for number, (name, count) in enumerate({"train": train, "val": 6, "test": 10}.items()):
        images, targets = samples(key, count, seed + number)
        parts[name] = split(images, TargetTensors(targets, TARGETS))
    return ImageData(
        name=f"{key}s",
        source=f"{key}s in Python",
        targets={key: TARGETS[key]},
        train=parts["train"],
        val=parts["val"],
        load_test=lambda: parts["test"],
        digest=f"{key}-{train}-{seed}",
    )


def two_sets(split=Split):
    """A data set for each task."""
    return {"kind": one_set("kind", 30, split), "box": one_set("box", 17)}


def two_tasks(seed=0, norm=False):
    """A trunk for images of any size with two decoders."""
    return built(seed, {"kind": (3, Classification), "box": (4, Boxes)}, SIZES["kind"], norm=norm)


def two_alphabets(seed=0):
    """Two classifications of digits."""
    return built(seed, {"left": (10, Classification), "right": (10, Classification)}, (3, 32, 32))


def built(seed, tasks, input_size, *, norm=False):
    torch.manual_seed(seed)

    def maybe(layer):
        return layer if norm else nn.Identity()

    trunk = nn.Sequential(
        nn.Conv2d(input_size[0], 4, 3), maybe(nn.BatchNorm2d(4)), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()
    )
    decoders = {}
    for name, (size, task) in tasks.items():
        layers = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), maybe(nn.BatchNorm1d(4)), nn.Linear(4, size))
        decoders[name] = (nn.Sequential(*layers), task(target=name))
    return offramp.multi_task(trunk, decoders, input_size=input_size)


def partly_labelled(split=Split, keys=("kind", "box")):
    """A set with both targets, of which few samples have a box, and some no class."""
    parts = {}
    for number, (name, count) in enumerate({"train": 24, "val": 6, "test": 9}.items()):
        images, targets = samples("kind", count, 50 + number)
        corner = images.mean((2, 3)).expand(-1, 2) / 2
        targets["box"] = torch.cat([corner, corner + 0.4], 1)
        targets["box"][torch.arange(count) % 9 != 4] = torch.nan
        targets["kind"][torch.arange(count) % 5 == 3] = -100
        parts[name] = split(images, TargetTensors({key: targets[key] for key in keys}, TARGETS))
    return ImageData(
        name="partly",
        source="partly",
        targets={key: TARGETS[key] for key in keys},
        train=parts["train"],
        val=parts["val"],
        load_test=lambda: parts["test"],
    )
