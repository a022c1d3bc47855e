"""`rooms`: the dense set that needs no files, rendered as it is read."""

from __future__ import annotations

from dataclasses import dataclass, fields

from offramp.data._dense_rows import DenseRows, DenseSample
from offramp.data.rooms import random_scene, render
from offramp.errors import UserError, cut, guess, shown

__all__ = ["RoomOptions", "RoomRows"]

SPLITS = ("train", "test")
RANGES = {
    "images": (1, 10**6),
    "test": (1, 10**6),
    "height": (8, 4096),
    "width": (8, 4096),
    "seed": (0, 2**63 - 1),
}


@dataclass(frozen=True)
class RoomOptions:
    """Which rooms: ``rooms``, or for example ``rooms:images=400,height=64,width=96,seed=1``.

    Attributes:
        images: Number of training images.
        test: Number of test images.
        height: Of an image, in pixels.
        width: Likewise.
        seed: Other rooms for each.
    """

    images: int = 400
    test: int = 100
    height: int = 96
    width: int = 128
    seed: int = 0

    @classmethod
    def of(cls, text: str) -> RoomOptions:
        """The options in a text.

        Raises:
            UserError: An option is unknown, given twice, no whole number, or out of its range.
        """
        names = [field.name for field in fields(cls)]
        values: dict[str, int] = {}
        _, colon, options = text.partition(":")
        for option in options.split(",") if colon else ():
            name, _, value = (part.strip() for part in option.partition("="))
            if name not in names:
                raise UserError(
                    f"rooms has no option {shown(name)}{guess(name, names)}; there are {', '.join(names)}, "
                    "e.g. rooms:images=400,seed=1"
                )
            if name in values:
                raise UserError(f"{shown(text)} gives {name} twice; give it once")
            values[name] = _whole_number(name, value)
        return cls(**values)

    def __str__(self) -> str:
        """The shortest text of these options."""
        given = [
            f"{field.name}={value}"
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default
        ]
        return ":".join(["rooms", *([",".join(given)] if given else [])])

    def splits(self) -> dict[str, DenseRows]:
        """The training and the test split."""
        return {"train": RoomRows(self, "train", self.images), "test": RoomRows(self, "test", self.test)}


def _whole_number(name: str, text: str) -> int:
    """The value of an option, in its range."""
    low, high = RANGES[name]
    if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
        raise UserError(f"rooms: {name}={cut(text, 60)} must be a whole number from {low} to {high}")
    return int(text)


@dataclass(frozen=True)
class RoomRows(DenseRows):
    """A split of random rooms. Image i of a split and a seed is the same however many there are.

    Attributes:
        options: Size and seed.
        split: ``"train"`` or ``"test"``, which have no room in common.
        count: Number of images.
    """

    options: RoomOptions
    split: str
    count: int

    def __len__(self) -> int:
        return self.count

    def sample(self, row: int) -> DenseSample:
        """Render a room."""
        scene = random_scene(self.options.seed, SPLITS.index(self.split), row)
        image, *maps = render(scene, self.options.height, self.options.width)
        return DenseSample(image, dict(zip(("segmentation", "depth", "normals"), maps, strict=True)))

    def location(self, row: int) -> str:
        """The name of a row in an error."""
        return f"{self.options} {self.split}, image {row}"
