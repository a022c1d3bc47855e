"""`open_data`: a name or a folder becomes training, validation and test split."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from offramp.data.digits import TEST, load_digits
from offramp.data.image_data import ImageData
from offramp.data.order import stratified
from offramp.data.rows import Rows, checked_labels
from offramp.data.sources import LARGE, find
from offramp.data.split import Split
from offramp.data.stream import StreamSplit
from offramp.errors import UserError

__all__ = ["open_data"]


class _Part(NamedTuple):
    """A split before any choice: its size and labels, and how chosen rows with their labels are loaded."""

    total: int
    labels: Callable[[], Tensor]
    load: Callable[[Tensor, Tensor], Split | StreamSplit]


def open_data(
    source: str | os.PathLike[str],
    *,
    val_fraction: float = 0.1,
    seed: int = 0,
    train_limit: int | None = None,
    test_limit: int | None = None,
    size: int | None = None,
) -> ImageData:
    """Open an image classification set and hold a validation split out of its training set.

    Images of one size are decoded to uint8 in memory, the training and validation split now, the test split
    at its first use; above 2 GiB they stream instead, as they are. With `size` every image may have its own
    size: the set streams, and images are cut to squares as they are read.

    The cuts and the validation split are stratified by class and pure functions of the numbers given.
    `train_limit` counts the images that are left before the validation split is held out of them.
    `test_limit` takes the same images whatever the seed, so that runs of several seeds can be compared.

    Args:
        source: ``"digits"`` (scikit-learn's, 32x32, the last 360 of 1,797 for test); a folder with
            ``train.parquet`` and ``test.parquet`` or the hub's sharded files; an image folder with
            ``train/<class>/`` and ``test/<class>/``; or a name on the hub, such as ``"uoft-cs/cifar100"``.
            A set without a labelled test split is tested on its ``validation``, ``valid`` or ``val`` split.
        val_fraction: The share of the training images that is held out, at least 0 (none) and below 1.
        seed: Chooses the training images under `train_limit`, and the validation images.
        train_limit: How many training images to use; None: all.
        test_limit: How many test images to use; None: all.
        size: Side in pixels of the squares that a streaming set serves.

    Raises:
        UserError: The source is missing or damaged, or a number is out of range.
    """
    source = os.fspath(source)
    if not 0 <= val_fraction < 1:
        raise UserError(f"val_fraction={val_fraction} must be at least 0 and below 1")
    if seed < 0:
        raise UserError(f"seed={seed} must be at least 0")
    if size is not None and size < 1:
        raise UserError(f"size={size} must be at least 1 pixel")
    name, classes, train, test = _digits(size) if source == "digits" else _stored(source, size)
    _check_limit("train_limit", train_limit, train.total)
    _check_limit("test_limit", test_limit, test.total)

    chosen, labels = _cut(train.labels(), train_limit, seed)
    held = 0 if val_fraction == 0 else max(1, round(val_fraction * len(chosen)))
    if held >= len(chosen):
        raise UserError(
            f"val_fraction={val_fraction} leaves none of {len(chosen)} images to train on; lower it"
        )
    in_val = torch.zeros(len(chosen), dtype=torch.bool)
    in_val[stratified(labels, held, seed=seed)] = True
    return ImageData(
        name=name,
        source=source,
        classes=classes,
        train=train.load(chosen[~in_val], labels[~in_val]),
        val=train.load(chosen[in_val], labels[in_val]),
        load_test=lambda: test.load(*_cut(test.labels(), test_limit, 0)),
    )


def _cut(labels: Tensor, limit: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """Which rows to use, and their labels."""
    chosen = torch.arange(len(labels)) if limit is None else stratified(labels, limit, seed=seed)
    return chosen, labels[chosen]


def _check_limit(name: str, limit: int | None, count: int) -> None:
    if limit is not None and not 1 <= limit <= count:
        raise UserError(f"{name}={limit} must be 1 to {count}, the images there are; leave it out to use all")


def _digits(size: int | None) -> tuple[str, tuple[str, ...], _Part, _Part]:
    if size is not None:
        raise UserError(f"size={size} is for sets that stream; 'digits' are 32x32, leave it out")
    images, labels = load_digits()

    def part(which: slice) -> _Part:
        return _Part(len(labels[which]), lambda: labels[which], lambda rows, y: Split(images[which][rows], y))

    return "digits", tuple("0123456789"), part(slice(0, -TEST)), part(slice(-TEST, None))


def _stored(source: str, size: int | None) -> tuple[str, tuple[str, ...], _Part, _Part]:
    train, test = find(source)
    classes = train.class_names or tuple(str(i) for i in range(int(train.labels().max()) + 1))

    def part(rows: Rows) -> _Part:
        return _Part(
            len(rows),
            lambda: checked_labels(rows, classes),
            lambda chosen, labels: _load(rows, chosen, labels, size),
        )

    return Path(source).expanduser().resolve().name, classes, part(train), part(test)


def _load(rows: Rows, chosen: Tensor, labels: Tensor, size: int | None) -> Split | StreamSplit:
    stream = StreamSplit(rows, chosen, labels, size=size)
    if size is None and len(chosen) * math.prod(stream.input_size) <= LARGE:
        return stream.decoded()
    return stream
