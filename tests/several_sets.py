"""Two small data sets of other images, sizes and lengths, and nets that learn a task on each."""

from __future__ import annotations

import torch
from torch import nn

import offramp
from offramp.data import ImageData, Split, Target
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
    parts = {
        name: samples(key, count, seed + n)
        for n, (name, count) in enumerate([("train", train), ("val", 6), ("test", 10)])
    }
    made = {name: split(images, targets_of(key, targets)) for name, (images, targets) in parts.items()}
    return ImageData(
        name=f"{key}s", source=f"{key}s in Python", targets={key: TARGETS[key]}, train=made["train"], val=made["val"],
        load_test=lambda: made["test"], digest=f"{key}-{train}-{seed}",
    )  # fmt: skip


def targets_of(key, targets):
    from offramp.data import TargetTensors

    return TargetTensors(targets, {key: TARGETS[key]})


def two_sets(split=Split):
    return {"kind": one_set("kind", 30, split), "box": one_set("box", 17)}


def two_tasks(seed=0, norm=False):
    """A trunk for images of any size with two decoders."""
    torch.manual_seed(seed)
    norms = [nn.BatchNorm2d(4)] if norm else []
    trunk = nn.Sequential(nn.Conv2d(1, 4, 3), *norms, nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())

    def decoder(size):
        return nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), *([nn.BatchNorm1d(4)] if norm else []), nn.Linear(4, size)
        )

    return offramp.multi_task(
        trunk,
        {"kind": (decoder(3), Classification(target="kind")), "box": (decoder(4), Boxes(target="box"))},
        input_size=SIZES["kind"],
    )
