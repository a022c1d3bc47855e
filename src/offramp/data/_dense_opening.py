"""Opening of a set whose samples have a target for every pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from offramp.data._dense_rows import MAPS, DenseRows
from offramp.data._selection import Selection, cut, hold_out
from offramp.data._sources import MAX_BYTES, Source
from offramp.data.dense_stream import DenseStream
from offramp.data.image_data import ImageData
from offramp.data.split import Split
from offramp.data.target_tensors import TargetTensors
from offramp.errors import UserError, shown

__all__ = ["open_dense", "refuse_settings"]

NONE = {
    "segmentation": "no pixel has a class (all are labelled -1) in {}; label them",
    "depth": "no pixel has a depth (all are 0) in {}; give metres",
    "normals": "no pixel has a normal (all are 0, 0, 0) in {}; give unit vectors",
}


def refuse_settings(source: Source, channels: int | None, settings: Mapping[str, Any]) -> None:
    """Refuse settings that say how other sets are read.

    Args:
        source: The set.
        channels: Number of channels that images are wanted with.
        settings: The others by name; None where one is not set.

    Raises:
        UserError: One is set.
    """
    given = [f"`{name}={shown(value)}`" for name, value in settings.items() if value is not None]
    if given:
        raise UserError(
            f"{source.name} has images and maps of its own size, and classes of its own; "
            f"leave {', '.join(given)} out"
        )
    if channels not in (None, 3):
        raise UserError(f"{source.name} has images of 3 channels, not {channels}; take a net that reads 3")


def open_dense(
    source: Source,
    *,
    val_fraction: float = 0.0,
    seed: int = 0,
    train_limit: int | None = None,
    test_limit: int | None = None,
    val_split: bool = True,
) -> ImageData:
    """Open the splits of a dense set, as :func:`~offramp.data.opening.open_data` says.

    Raises:
        UserError: There is no test split, a sample is damaged, or no sample has one of the targets.
    """
    splits = dict(source.dense)
    if "test" not in splits and "val" in splits:
        splits["test"] = splits.pop("val")
    if "test" not in splits:
        raise UserError(f"{source.text} has no test split; add one, as val/ or test/ beside train/")
    if not val_split:
        splits.pop("val", None)
    whole = {
        name: Selection(torch.arange(len(rows)), TargetTensors({}, MAPS)) for name, rows in splits.items()
    }
    fraction = 0.0 if "val" in splits else val_fraction
    train, held = hold_out(cut("train_limit", whole["train"], train_limit, seed), fraction, seed)
    test = cut("test_limit", whole["test"], test_limit, 0)
    return ImageData(
        name=source.name,
        source=source.text,
        targets=MAPS,
        train=_filled(splits["train"], train),
        val=_split(splits["val"], whole["val"]) if "val" in splits else _split(splits["train"], held),
        load_test=lambda: _filled(splits["test"], test),
        notes=source.notes,
    )


def _filled(rows: DenseRows, selection: Selection) -> Split | DenseStream:
    """Some rows, of which each target is in one or more.

    Raises:
        UserError: None of them has one.
    """
    if absent := DenseStream(rows, selection.rows).absent():
        first, last = (rows.location(int(row)) for row in selection.rows[[0, -1]])
        samples = first if len(selection) == 1 else f"the {len(selection)} samples from {first} to {last}"
        raise UserError(NONE[absent[0]].format(samples))
    return _split(rows, selection)


def _split(rows: DenseRows, selection: Selection) -> Split | DenseStream:
    """Some rows: in memory, unless they are too large."""
    stream = DenseStream(rows, selection.rows)
    return stream.decoded() if stream.nbytes <= MAX_BYTES else stream
