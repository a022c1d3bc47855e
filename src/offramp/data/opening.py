"""`open_data`: a name, a folder or a Python object becomes training, validation and test split."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

from offramp.checks import described, flag, is_number, of_kind
from offramp.data._columns import Columns
from offramp.data._dense_opening import open_dense, refuse_settings
from offramp.data._digest import digest, labels_digest
from offramp.data._image_reader import ImageReader
from offramp.data._one_class import one_class
from offramp.data._selection import Selection, cut, hold_out
from offramp.data._several import several_targets
from offramp.data._sources import Source, find_source
from offramp.data._splits import LabelledSplits
from offramp.data._text_reader import TextReader, text_reader
from offramp.data.asked import Asked, asked_targets, parse_tasks
from offramp.data.batch import Origin
from offramp.data.decoding import LARGEST
from offramp.data.joint_data import JointData, several_sets
from offramp.data.opened import OpenedData
from offramp.data.targets import LABEL, Target, only_class
from offramp.errors import UserError, shown

__all__ = ["open_data", "open_other"]


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
    tasks: str | Mapping[str, str] | None = None,
    classes: int | Sequence[object] | None = None,
    ignore_label: object = None,
    tokenizer: Any = None,
    max_tokens: int | None = None,
    text: str | None = None,
) -> OpenedData[Any]:
    """Open a set of images or texts with classes, and hold a validation split out if it brings none.

    Images of one size are decoded in memory, the training and validation split now, the test split at its
    first use; above 2 GiB they stream instead, as they are. With `size` every image may have its own size:
    the set streams, and images are cut to squares as they are read. No set is decoded as a whole to be
    opened; of a table, the column of the labels is read. Texts are those with a `tokenizer`: they are kept in
    memory as token ids, and padded to the longest text of each batch, whose inputs are what the tokenizer
    returns (``input_ids``, ``attention_mask`` and the like).

    The cuts and the validation split are stratified by class and pure functions of the numbers given.
    `train_limit` counts the images that are left before the validation split is held out of them.
    `test_limit` takes the same images whatever the seed, so that runs of several seeds can be compared.

    Classes are those that the set names (ClassLabel, class folders, `classes` of a torchvision set), seen or
    not; otherwise the different labels of the training split in their order: words, truth values, or whole
    numbers, which need not begin at 0. A negative number means that there is no label.

    Args:
        source: ``"digits"`` (scikit-learn's, 32x32, the last 360 of 1,797 for test); ``"rooms"``, or such as
            ``"rooms:images=400,test=100,height=96,width=128,seed=0"``, which are rendered, with segmentation,
            depth and normals; NYUv2 as a folder ``{train,val}/{image,label,depth,normal}/<number>.npy`` or as
            ``"tanganke/nyuv2"``, with the same targets; a folder with
            ``train.parquet`` and ``test.parquet``, with ``.csv`` (and a header) or ``.jsonl`` files in their
            place, or with the hub's sharded files; an image folder with
            ``train/<class>/`` and ``test/<class>/``; or a name on the hub, such as ``"uoft-cs/cifar100"``.
            Or a Python object: a torch ``Dataset`` or ``DataLoader``, a Hugging Face ``Dataset`` or
            ``DatasetDict``, a list of (image, label) pairs, a tuple (images, labels); these stand for the
            training split, a mapping ``{"train": ..., "val": ..., "test": ...}`` brings several. Tensors are
            ``[C, H, W]``, arrays also ``[H, W, C]``. A mapping from other names than those of splits to such
            sources, or to opened sets, gives :class:`~offramp.data.JointData`: a data set per task.
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
        tasks: Several targets for each sample: the name of each, its key in a batch's targets, with its
            column, ``{"class": "label", "box": "box"}`` or ``"class:label,box:box"``. Whole numbers and words
            are a class, other numbers and lists of them values to be predicted, lists of 0 and 1 several
            labels at once, and four numbers in a column or under a name ``box`` or ``bbox`` a box, which is
            (x0, y0, x1, y1) as fractions of its image; ``"column:kind"`` says otherwise
            (:class:`~offramp.data.Target` lists the kinds). A sample whose value is null, None or NaN lacks
            the target. None: the one class in `label`, or what Python data give as (image, {name: target}).
        classes: How many there are, of labels that are whole numbers from 0 on; or the classes in their
            order: the labels themselves, or words for 0, 1, ...
        ignore_label: Leave out the images with this label, or with one of these; with `tasks`, they have no
            class.
        tokenizer: For texts, and none is guessed: a folder that ``tokenizer.save_pretrained`` of transformers
            has written, or an object that is called as those of transformers are.
        max_tokens: The most tokens of a text, which the tokenizer cuts; a note says how many texts are cut.
            None: as many as the tokenizer says that its net takes (``model_max_length``).
        text: Column of the texts; None: ``text`` or ``sentence``, or the only one of words beside the labels.

    Raises:
        UserError: The source is missing or damaged, a label is no class, or a number is out of range.
    """
    settings = {name: value for name, value in locals().items() if name != "source"}
    if several_sets(source):
        return JointData(
            {
                name: each if isinstance(each, OpenedData) else open_data(each, **settings)
                for name, each in source.items()
            }
        )
    _check_settings(settings)
    texts = text_reader(tokenizer, text, max_tokens, size=size, channels=channels, image=image)
    found = find_source(source, _columns(texts, image, label, tasks))
    if found.dense:
        refuse_settings(found, channels, {"size": size, "classes": classes, "ignore_label": ignore_label,
                                          "tokenizer": tokenizer, "tasks": tasks})  # fmt: skip
        return open_dense(
            found, val_fraction=val_fraction, seed=seed, train_limit=train_limit, test_limit=test_limit,
            val_split=val_split,
        )  # fmt: skip
    ignored = _listed(ignore_label)
    if asked := found.splits["train"].asked:
        splits = several_targets(found, asked, val_split=val_split, classes=classes, ignored=ignored)
    else:
        splits = one_class(found, val_split=val_split, classes=classes, ignored=ignored)
    return _open(
        found, splits, texts or ImageReader(size, channels),
        val_fraction=val_fraction, seed=seed, train_limit=train_limit, test_limit=test_limit,
    )  # fmt: skip


def open_other(
    source: Any,
    known: Mapping[str, Target],
    *,
    size: int | None = None,
    channels: int | None = None,
    image: str | None = None,
    label: str | None = None,
    tasks: str | Mapping[str, str] | None = None,
    ignore_label: object = None,
    tokenizer: Any = None,
    max_tokens: int | None = None,
    text: str | None = None,
) -> OpenedData[Any]:
    """Open another set to evaluate a trained net on.

    The settings are those of :func:`open_data` for the set that the net was trained on: columns that this one
    lacks are looked for by their usual names, and a mapping needs no training split.

    Args:
        source: As for :func:`open_data`.
        known: The net's targets; a set that names no classes itself is taken to have theirs.
    """
    _check_settings({**_UNSET, "size": size, "channels": channels, "max_tokens": max_tokens,
                     "image": image, "label": label, "text": text})  # fmt: skip
    texts = text_reader(tokenizer, text, max_tokens, size=size, channels=channels, image=image)
    found = find_source(source, _columns(texts, image, label, tasks, known=known))
    if found.dense:
        refuse_settings(found, channels, {"tokenizer": tokenizer})
        return open_dense(found)
    reader = texts or ImageReader(size, channels)
    if asked := found.splits["train"].asked:
        ignored = _listed(ignore_label)
        splits = several_targets(found, asked, val_split=True, classes=None, ignored=ignored, known=known)
    else:
        classes = known[LABEL].classes if found.splits["train"].class_names is None else None
        splits = one_class(found, val_split=True, classes=classes, ignored=_listed(ignore_label))
    return _open(found, splits, reader, val_fraction=0)


def _columns(
    texts: TextReader | None,
    image: str | None,
    label: str | None,
    tasks: str | Mapping[str, str] | None,
    *,
    known: Mapping[str, Target] | None = None,
) -> Columns:
    """The columns that are asked for; for a net that is trained, with the kinds of its targets."""
    asked = None if tasks is None else asked_targets(parse_tasks(tasks))
    if asked is not None and label is not None:
        raise UserError(
            f"label={shown(label)} is the column of a set's one class; with `tasks` give it there, e.g. "
            f"`tasks={{label: {label}}}`"
        )
    if known is not None and only_class(known) is None:
        asked = {
            key: Asked(asked[key].column if asked and key in asked else key, of.kind)
            for key, of in known.items()
        }
    kind, content = ("image", image) if texts is None else ("text", texts.column)
    return Columns(content, label, known is None, kind, asked)


def _listed(ignore_label: object) -> list[object]:
    labels = ignore_label if isinstance(ignore_label, (list, tuple)) else [ignore_label]
    return [label for label in labels if label is not None]


def _open(
    source: Source,
    splits: LabelledSplits,
    reader: ImageReader | TextReader,
    *,
    val_fraction: float,
    seed: int = 0,
    train_limit: int | None = None,
    test_limit: int | None = None,
) -> OpenedData[Any]:
    selections = splits.selections

    def load(split: str, selection: Selection) -> Any:
        return reader.split(splits.rows[split], selection)

    fraction = 0.0 if "val" in selections else val_fraction
    train, held = hold_out(cut("train_limit", selections["train"], train_limit, seed), fraction, seed)
    if "test" in selections:
        test_key, test, test_notes = "test", selections["test"], []
    else:  # only of Python objects; others are refused
        test_key, test = "train", held if len(held) else train
        samples = "validation samples held out" if len(held) else "samples"
        test_notes = [
            f"{source.name} has no test split: its {len(test)} {samples} are what is evaluated in the end"
        ]
    test = cut("test_limit", test, test_limit, 0)
    opened = reader.opened(
        name=source.name,
        source=source.text,
        targets=splits.targets,
        train=load("train", train),
        val=load("val", selections["val"]) if "val" in selections else load("train", held),
        load_test=lambda: load(test_key, test),
        notes=[
            *source.notes,
            *splits.notes,
            *test_notes,
        ],
        digest=digest(splits, reader.content) if source.in_python else None,
        labels_digest=None if source.in_python else labels_digest(splits),
        named=source.splits["train"].class_names is not None,
    )
    if test_key == "train":
        tested = opened.val if len(held) else opened.train
        tested.origin = Origin(source.name, "val" if len(held) else "train", is_test=True)
    return opened


_UNSET: dict[str, Any] = {  # what open_other has no use for
    "val_fraction": 0, "seed": 0, "train_limit": None, "test_limit": None, "val_split": True, "classes": None,
    "ignore_label": None,
}  # fmt: skip


def _check_settings(settings: Mapping[str, Any]) -> None:
    for name in ("seed", "train_limit", "test_limit", "size", "channels", "max_tokens"):
        value = settings[name]
        left_out = value is None and name != "seed"
        if not left_out and (not isinstance(value, Integral) or isinstance(value, bool)):
            raise UserError(f"{name} is {described(value)}, must be a whole number")
    for name in ("image", "label", "text"):
        of_kind(name, settings[name], str | None, "the name of a column")
    flag("val_split", settings["val_split"])
    of_kind(
        "classes", settings["classes"], int | list | tuple | None, "a number of classes, or a list of them"
    )
    labels = settings["ignore_label"]
    for label in labels if isinstance(labels, (list, tuple)) else [labels]:
        of_kind(
            "ignore_label", label, bool | int | str | None, "a label, a whole number or a word, or their list"
        )
    val_fraction, seed, size = (settings[name] for name in ("val_fraction", "seed", "size"))
    if not is_number(val_fraction):
        raise UserError(
            f"val_fraction is {described(val_fraction)}, must be a number of at least 0 and below 1"
        )
    if not 0 <= val_fraction < 1:
        raise UserError(f"val_fraction={val_fraction} must be at least 0 and below 1")
    if seed < 0:
        raise UserError(f"seed={seed} must be at least 0")
    if size is not None and size < 1:
        raise UserError(f"size={size} must be at least 1 pixel")
    if size is not None and size * size > LARGEST:
        raise UserError(f"size={shown(size)} must be at most {math.isqrt(LARGEST)} pixels")
