"""The data sets of the published tables, and whether a set that is opened can be one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from offramp.data import OpenedData

__all__ = ["SETS", "PublishedSet"]


@dataclass(frozen=True)
class PublishedSet:
    """A published data set, and the properties by which it is recognised.

    Attributes:
        name: Its name in papers.
        train: Number of training images.
        test: Number of images that its tables are measured on.
        classes: Number of classes, of an image or of its pixels.
        names: The first and the last class in the order of the alphabet; none where releases differ in them.
        targets: Kinds of its targets.
        side: Of its square images, in pixels, as the published networks read them; None where they are not.
    """

    name: str
    train: int
    test: int
    classes: int
    names: tuple[str, ...] = ()
    targets: tuple[str, ...] = ("class",)
    side: int | None = None

    def other_targets(self, data: OpenedData[Any]) -> str:
        """Why the networks cannot be trained on a set in its place, in words; empty if they can."""
        kinds = tuple(target.kind for target in data.targets.values())
        if kinds == self.targets:
            return ""
        return f"{data.name} has {', '.join(kinds)} to predict, and {self.name} {', '.join(self.targets)}"

    def unlike(self, data: OpenedData[Any]) -> str:
        """Why a set that is opened whole cannot be this one, in words; empty if it can."""
        first = next(iter(data.targets.values()))
        names = sorted(first.classes)
        if first.size != self.classes:
            return f"{data.name} has {first.size} classes, and {self.name} has {self.classes}"
        if self.names and data.named and (names[0], names[-1]) != self.names:
            return (
                f"the classes of {data.name} run from {names[0]} to {names[-1]}, and those of {self.name} "
                f"from {self.names[0]} to {self.names[1]}"
            )
        if (images := len(data.train) + len(data.val)) != self.train:
            return f"{data.name} has {images:,} training images, and {self.name} has {self.train:,}"
        if len(data.test) != self.test:
            return f"{data.name} has {len(data.test):,} test images, and {self.name} has {self.test:,}"
        return ""


SETS = {
    each.name: each
    for each in (
        PublishedSet("CIFAR-10", 50_000, 10_000, 10, ("airplane", "truck"), side=32),
        PublishedSet("CIFAR-100", 50_000, 10_000, 100, ("apple", "worm"), side=32),
        PublishedSet("ImageNet", 1_281_167, 50_000, 1000, side=224),
        PublishedSet("NYUv2", 795, 654, 13, targets=("segmentation", "depth", "normals")),
    )
}
