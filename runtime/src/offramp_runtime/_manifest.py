"""The manifest of a bundle: what its graphs read and say, and where samples may leave."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from offramp_runtime._errors import BundleError, shown
from offramp_runtime._fields import Fields, parsed
from offramp_runtime._folder import MANIFEST, check_folder, plain_name, read_file
from offramp_runtime._thresholds import read_thresholds

__all__ = ["WHOLE", "Bundle", "Carried", "Exit", "Image", "Input", "read_bundle"]

FORMAT = 1
WHOLE = "model.onnx"  # the graph of all exits
LARGEST_MANIFEST = 2**25  # bytes: 20,000 classes with names of 255 letters each
DTYPES = ("bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64",
          "uint8", "uint16", "uint32", "uint64")  # fmt: skip
MODES = {"L": 1, "RGB": 3, "RGBA": 4}

Shape = tuple[int | None, ...] | None


class Input(NamedTuple):
    """What a model reads.

    Attributes:
        name: Its name.
        dtype: Its numpy dtype.
        shape: Of one sample; None for an axis of any length.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class Carried(NamedTuple):
    """What one stage's graph hands to the next.

    Attributes:
        name: Its name in both.
        dtype: Its numpy dtype.
        shape: Of one sample, or of the whole where it is not batched; None: free.
        batched: Whether it has a row for each sample, or is the same for all samples of a batch.
    """

    name: str
    dtype: str
    shape: Shape
    batched: bool


class Exit(NamedTuple):
    """An exit at which samples may leave.

    Attributes:
        exit: Its number in the net, from 1.
        cost: Operations of a sample that leaves there; None: unknown.
        graph: The file of the stage that ends with it.
        carried: What that hands to the next stage.
    """

    exit: int
    cost: int | None
    graph: str
    carried: tuple[Carried, ...]


class Image(NamedTuple):
    """How image files become what a model reads.

    Attributes:
        channels: Of the image: 1 (gray), 3 or 4.
        size: Its height and width.
        cut: Whether images of any size are resized, and cut to their middle.
    """

    channels: int
    size: tuple[int, int]
    cut: bool


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds, its graphs aside.

    Attributes:
        folder: Where it is.
        net: What it was exported from.
        precision: Of its weights: ``fp32`` or ``int8``.
        inputs: What it reads.
        image: How image files become that; None where it reads no image.
        classes: The names of the classes.
        confidence: By what measure samples leave.
        exits: Where, the last one included.
        thresholds: Of all exits but the last, float32 ``[m]``, or ``[m, classes]``.
        sums: The SHA-256 of each file, by its name.
    """

    folder: Path
    net: str
    precision: str
    inputs: tuple[Input, ...]
    image: Image | None
    classes: tuple[str, ...]
    confidence: str
    exits: tuple[Exit, ...]
    thresholds: np.ndarray
    sums: Mapping[str, str]


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle, all of whose files are checked against their checksums.

    Raises:
        BundleError: Anything is wrong with it.
    """
    sums = check_folder(folder)
    for name in ("policy.json", WHOLE):
        if name not in sums:
            raise BundleError(f"{folder} has no {name}; give a folder that offramp export wrote")
    fields = parsed(read_file(folder, MANIFEST, LARGEST_MANIFEST), MANIFEST)
    version = fields.get("offramp_bundle")
    if version != FORMAT or isinstance(version, bool):
        raise BundleError(
            f"the bundle is of format {shown(version)}, and this offramp-runtime reads format {FORMAT}; "
            "export it again, or take the offramp-runtime of that format"
        )
    inputs, exits, classes = _inputs(fields), _exits(fields, sums), fields.texts("classes")
    numbers, confidence = [each.exit for each in exits], fields.text("confidence")
    thresholds = read_thresholds(folder, numbers, len(classes), confidence)
    if fields.sizes("thresholds", 0) != thresholds.shape:
        raise fields.wrong("thresholds", f"the shape of those in policy.json, {[*thresholds.shape]}")
    return Bundle(
        folder=folder,
        net=fields.text("net"),
        precision=fields.text("precision"),
        inputs=inputs,
        image=_image(fields, inputs),
        classes=classes,
        confidence=confidence,
        exits=exits,
        thresholds=thresholds,
        sums=sums,
    )


def _inputs(fields: Fields) -> tuple[Input, ...]:
    found = []
    for each in fields.objects("inputs"):
        shape = each.axes("shape")
        if shape is None:
            raise each.wrong("shape", "a list of lengths, null where an axis is free")
        found.append(Input(each.text("name"), _dtype(each), shape))
    if not found or len({each.name for each in found}) < len(found):
        raise BundleError("manifest.json: inputs must be one or more, of different names")
    return (*found,)


def _dtype(fields: Fields) -> str:
    name = fields.text("dtype")
    if name not in DTYPES:
        raise fields.wrong("dtype", f"one of {', '.join(DTYPES)}")
    return name


def _image(fields: Fields, inputs: tuple[Input, ...]) -> Image | None:
    if fields.get("image") is None:
        return None
    image = fields.object("image")
    size, channels = image.sizes("size"), MODES.get(image.text("mode"))
    if channels is None:
        raise image.wrong("mode", f"one of {', '.join(MODES)}")
    if len(size) != 2 or [(each.dtype, each.shape) for each in inputs] != [("uint8", (channels, *size))]:
        raise BundleError(
            "manifest.json: image disagrees with inputs, which must be one uint8 image of that size"
        )
    if (cut := image.flag("cut")) and size[0] != size[1]:
        raise image.wrong("size", "that of a square, since images are cut")
    return Image(channels, (size[0], size[1]), cut)


def _exits(fields: Fields, files: Collection[str]) -> tuple[Exit, ...]:
    exits: list[Exit] = []
    for each in fields.objects("exits"):
        graph, number = each.text("graph"), each.whole("exit", exits[-1].exit + 1 if exits else 1)
        if not plain_name(graph) or graph not in files:
            raise each.wrong("graph", "a file of the bundle")
        cost = None if each.get("cost") is None else each.whole("cost", exits[-1].cost or 0 if exits else 0)
        carried = tuple(
            Carried(one.text("name"), _dtype(one), one.axes("shape"), one.flag("batched"))
            for one in each.objects("carried")
        )
        exits.append(Exit(number, cost, graph, carried))
    if not exits:
        raise BundleError("manifest.json: exits must be one or more")
    for found in exits:
        _check_carried(found.carried, last=found is exits[-1])
    return (*exits,)


def _check_carried(carried: tuple[Carried, ...], *, last: bool) -> None:
    if last and carried:
        raise BundleError("manifest.json: the last of the exits must have nothing carried")
    if not last and not any(each.batched for each in carried):
        raise BundleError("manifest.json: exits but the last must have something carried for each sample")
    if len({each.name for each in carried}) < len(carried):
        raise BundleError("manifest.json: what an exit has carried must be of different names")
