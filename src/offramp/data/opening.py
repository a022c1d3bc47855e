"""`open_data`: a name, a folder or a Python object becomes training, validation and test split."""

from __future__ import annotations

import hashlib
import math
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from offramp.data.classes import Classes, Labelled, classes_of
from offramp.data.columns import Columns
from offramp.data.draws import drawing
from offramp.data.image_data import ImageData
from offramp.data.labels import Labels, is_number
from offramp.data.order import stratified
from offramp.data.pictures import pixels
from offramp.data.rows import Rows, decode
from offramp.data.samples import spaced
from offramp.data.sources import LARGE, Found, find
from offramp.data.split import Split
from offramp.data.stream import StreamSplit
from offramp.errors import UserError

__all__ = ["open_data", "open_other"]

Chosen = tuple[Tensor, Tensor]  # rows and their classes, int64 [N] each


def open_data(
    source: Any,
    *,
    val_fraction: float = 0.1,
    seed: int = 0,
    train_limit: int | None = None,
    test_limit: int | None = None,
    size: int | None = None,
    val_split: bool = True,
    channels: int | None = None,
    image: str | None = None,
    label: str | None = None,
    classes: int | Sequence[object] | None = None,
    ignore_label: object = None,
) -> ImageData:
    """Open an image classification set, and hold a validation split out if it brings none.

    Images of one size are decoded in memory, the training and validation split now, the test split at its
    first use; above 2 GiB they stream instead, as they are. With `size` every image may have its own size:
    the set streams, and images are cut to squares as they are read. No set is decoded as a whole to be
    opened; of a table, the column of the labels is read.

    The cuts and the validation split are stratified by class and pure functions of the numbers given.
    `train_limit` counts the images that are left before the validation split is held out of them.
    `test_limit` takes the same images whatever the seed, so that runs of several seeds can be compared.

    Classes are those that the set names (ClassLabel, class folders, `classes` of a torchvision set), seen or
    not; otherwise the different labels of the training split in their order: words, truth values, or whole
    numbers, which need not begin at 0. A negative number means that there is no label.

    Args:
        source: ``"digits"`` (scikit-learn's, 32x32, the last 360 of 1,797 for test); a folder with
            ``train.parquet`` and ``test.parquet`` or the hub's sharded files; an image folder with
            ``train/<class>/`` and ``test/<class>/``; or a name on the hub, such as ``"uoft-cs/cifar100"``.
            Or a Python object: a torch ``Dataset`` or ``DataLoader``, a Hugging Face ``Dataset`` or
            ``DatasetDict``, a list of (image, label) pairs, a tuple (images, labels); these stand for the
            training split, a mapping ``{"train": ..., "val": ..., "test": ...}`` brings several. Tensors are
            ``[C, H, W]``, arrays also ``[H, W, C]``.
            A set without a labelled test split is tested on its ``validation``, ``valid`` or ``val`` split; a
            Python object with neither, on the validation images held out, or else on all its images.
        val_fraction: The share of the training images that is held out, at least 0 (none) and below 1.
        seed: Chooses the training images under `train_limit`, and the validation images.
        train_limit: How many training images to use; None: all.
        test_limit: How many test images to use; None: all.
        size: Side in pixels of the squares that every image is cut to.
        val_split: Use the validation split that the set brings beside a test split; `val_fraction` then has
            no use. False: hold one out of the training images all the same.
        channels: How many an image has: image files and PIL images become gray (1), RGB (3) or RGBA (4);
            arrays must have so many. None: 3 for files and PIL images.
        image: Column of the images; None: ``image`` or ``img``, or the only one declared so.
        label: Column of the labels; None: ``label``, ``fine_label`` or ``labels``, or the only one declared
            so.
        classes: How many there are, of labels that are whole numbers from 0 on; or the classes in their
            order: the labels themselves, or words for 0, 1, ...
        ignore_label: Leave out the images with this label, or with one of these.

    Raises:
        UserError: The source is missing or damaged, a label is no class, or a number is out of range.
    """
    found = find(source, Columns(image, label))
    return _opened(
        found, val_fraction=val_fraction, seed=seed, train_limit=train_limit, test_limit=test_limit,
        size=size, val_split=val_split, channels=channels, classes=classes, ignore_label=ignore_label,
    )  # fmt: skip


def open_other(
    source: Any,
    known: Sequence[str],
    *,
    size: int | None = None,
    channels: int | None = None,
    image: str | None = None,
    label: str | None = None,
    ignore_label: object = None,
) -> ImageData:
    """Another set for a net that tells the known classes apart, to be evaluated only.

    The settings are those of :func:`open_data` for the set that the net was trained on: columns that this one
    lacks are looked for by their usual names, and a mapping needs no training split.

    Args:
        source: As for :func:`open_data`.
        known: The net's classes, which a set that names none itself is taken to have.
    """
    found = find(source, Columns(image, label, insist=False))
    classes = known if found.splits["train"].class_names is None else None
    return _opened(
        found, val_fraction=0, size=size, channels=channels, classes=classes, ignore_label=ignore_label
    )


def _opened(
    found: Found,
    *,
    val_fraction: float,
    seed: int = 0,
    train_limit: int | None = None,
    test_limit: int | None = None,
    size: int | None,
    val_split: bool = True,
    channels: int | None,
    classes: int | Sequence[object] | None,
    ignore_label: object,
) -> ImageData:
    _check_numbers(val_fraction, seed, size)
    ignored = ignore_label if isinstance(ignore_label, (list, tuple)) else [ignore_label]
    everything = {name: (rows, rows.labels()) for name, rows in found.splits.items()}
    splits = _labelled(found, everything, val_split=val_split, classes=classes)
    decided = classes_of(splits["train"], classes, [label for label in ignored if label is not None])
    chosen = decided.find(splits)

    def load(split: str, part: Chosen) -> Split | StreamSplit:
        return _load(splits[split][0], part, size, channels)

    held_fraction = 0.0 if "val" in chosen else val_fraction
    train, held = _hold_out(_cut("train_limit", chosen["train"], train_limit, seed), held_fraction, seed)
    if "test" in chosen:
        stored, tested, last = "test", chosen["test"], []
    else:  # only of Python objects; others are refused
        stored, tested = "train", held if len(held[0]) else train
        which = "validation images held out" if len(held[0]) else "images"
        last = [
            f"{found.name} has no test split: its {len(tested[0])} {which} are what is evaluated in the end"
        ]
    tested = _cut("test_limit", tested, test_limit, 0)
    return ImageData(
        name=found.name,
        source=found.source,
        classes=decided.names,
        train=load("train", train),
        val=load("val", chosen["val"]) if "val" in chosen else load("train", held),
        load_test=lambda: load(stored, tested),
        notes=[
            *found.notes,
            *_gaps(decided, splits["train"]),
            *_nowhere(decided.ignored, [labels for _, labels in everything.values()]),
            *last,
        ],
        digest=_digest(splits, chosen, decided, channels) if found.in_python else None,
        named=found.splits["train"].class_names is not None,
    )


def _check_numbers(val_fraction: float, seed: int, size: int | None) -> None:
    if not 0 <= val_fraction < 1:
        raise UserError(f"val_fraction={val_fraction} must be at least 0 and below 1")
    if seed < 0:
        raise UserError(f"seed={seed} must be at least 0")
    if size is not None and size < 1:
        raise UserError(f"size={size} must be at least 1 pixel")


def _labelled(
    found: Found,
    everything: Mapping[str, Labelled],
    *,
    val_split: bool,
    classes: int | Sequence[object] | None,
) -> dict[str, Labelled]:
    """The splits that have labels; where no test split has, validation takes its place."""
    splits = dict(everything)
    classed = set(map(str, classes)) if isinstance(classes, Sequence) else set()
    for name, (_, labels) in list(splits.items()):
        missing = [
            value for value in labels.values if is_number(value) and value < 0 and str(value) not in classed
        ]
        if name != "train" and len(missing) == len(labels.values):  # published test sets are often without
            del splits[name]
    if "test" not in splits and "val" in splits:
        splits["test"] = splits.pop("val")
    if "test" not in splits and not found.in_python:
        none = (
            f" with labels ({found.splits['test'].where(0)} and on: none)" if "test" in found.splits else ""
        )
        raise UserError(
            f"{found.source} has no test split{none}; add one, e.g. test.parquet or test/<class>/"
        )
    if not val_split:
        splits.pop("val", None)
    return splits


def _hold_out(part: Chosen, fraction: float, seed: int) -> tuple[Chosen, Chosen]:
    """Hold validation rows out of the training rows."""
    rows, classes = part
    held = 0 if fraction == 0 else max(1, round(fraction * len(rows)))
    if held >= len(rows):
        raise UserError(f"val_fraction={fraction} leaves none of {len(rows)} images to train on; lower it")
    in_val = torch.zeros(len(rows), dtype=torch.bool)
    in_val[stratified(classes, held, seed=seed)] = True
    return (rows[~in_val], classes[~in_val]), (rows[in_val], classes[in_val])


def _cut(name: str, part: Chosen, limit: int | None, seed: int) -> Chosen:
    """Limit the rows of a split to so many of them."""
    if limit is None:
        return part
    rows, classes = part
    if not 1 <= limit <= len(rows):
        raise UserError(
            f"{name}={limit} must be 1 to {len(rows)}, the images there are; leave it out to use all"
        )
    index = stratified(classes, limit, seed=seed)
    return rows[index], classes[index]


def _gaps(classes: Classes, split: Labelled) -> list[str]:
    """A note on labels that are whole numbers, but not 0, 1, 2, ..."""
    _, labels = split
    names = classes.names
    if (
        classes.by_place
        or not any(map(is_number, labels.values))
        or names == tuple(map(str, range(len(names))))
    ):
        return []
    few = ", ".join(names if len(names) <= 8 else [*names[:5], "...", names[-1]])
    return [
        f"the labels are not 0 ... {len(names) - 1} but {few}: {len(names)} classes, called by their labels"
    ]


def _nowhere(ignored: Iterable[str], labels: Sequence[Labels]) -> list[str]:
    """What to say of labels to leave out that are not there."""
    there = list(dict.fromkeys(value for each in labels for value in each.values))
    absent = sorted(set(ignored) - set(map(str, there)))
    if not absent:
        return []
    return [f"ignore_label: no image has the label {', '.join(absent)}; the labels are {reprlib.repr(there)}"]


def _load(rows: Rows, part: Chosen, size: int | None, channels: int | None) -> Split | StreamSplit:
    chosen, classes = part
    stream = StreamSplit(rows, chosen, classes, size=size, channels=channels)
    small = len(chosen) * math.prod(stream.input_size) * stream.dtype.itemsize <= LARGE
    return stream.decoded() if size is None and small and not rows.random else stream


def _digest(
    splits: dict[str, Labelled], chosen: dict[str, Chosen], classes: Classes, channels: int | None
) -> str:
    """A digest of data that exist in Python only: of all labels, and of some training images."""
    content = hashlib.sha256(repr(classes.names).encode())
    for split in sorted(chosen):
        content.update(split.encode())
        for numbers in chosen[split]:
            content.update(numbers.numpy().tobytes())
    rows, _ = splits["train"]
    if getattr(rows, "exact", True):
        for row in spaced(len(rows), 8):
            with drawing(row):
                content.update(pixels(decode(rows, row, channels)).contiguous().numpy().tobytes())
    return content.hexdigest()[:16]
