"""What is trained: five methods on the embedded digits, and one on images that are decoded by workers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

__all__ = ["METHODS", "Subject", "subjects"]

METHODS = ("joint", "dfs", "cagrad", "dr-mgf", "separate", "streaming")


@dataclass(frozen=True)
class Subject:
    """A training to attack.

    Attributes:
        name: As the table has it.
        words: What stands after ``offramp``, but for ``--out``.
    """

    name: str
    words: tuple[str, ...]


def subjects(names: list[str], images: Path) -> list[Subject]:
    """The subjects of these names; ``streaming`` reads a set that is written to a folder."""
    return [_streaming(images) if name == "streaming" else _digits(name) for name in names]


def _digits(method: str) -> Subject:
    settings = ["train_limit=200", "test_limit=40", "batch_size=8", "checkpoint_every=3"]
    settings += ["average=0.9"] * (method == "dfs")
    words = ["train", "--data", "digits", "--net", "vgg7:width=2", "--method", method, "--epochs", "3"]
    return Subject(method, (*words, "--set", *settings))


def _streaming(folder: Path) -> Subject:
    """PNG files of several sizes, which are cut to squares at random as they are read."""
    from PIL import Image

    draw = Random(0)
    for split, count in (("train", 24), ("test", 4)):
        for label in ("cat", "dog"):
            (inside := folder / split / label).mkdir(parents=True)
            for number in range(count):
                size = (draw.randint(33, 60), draw.randint(33, 60))
                Image.frombytes("RGB", size, draw.randbytes(3 * size[0] * size[1])).save(
                    inside / f"{number}.png"
                )
    words = ["train", "--data", str(folder), "--net", "vgg7:width=2", "--method", "dfs", "--epochs", "3"]
    settings = ["size=32", "augment=imagenet", "batch_size=4", "checkpoint_every=3"]
    return Subject("streaming", (*words, "--set", *settings))
