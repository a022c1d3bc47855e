"""Which split of a source serves for which purpose."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from offramp.data._rows import Rows
from offramp.data._selection import Selection
from offramp.data._sources import Source
from offramp.data.targets import Target
from offramp.errors import UserError

__all__ = ["LabelledSplits", "usable_splits"]


@dataclass(frozen=True)
class LabelledSplits:
    """The splits of a source and the targets of their samples.

    Attributes:
        targets: What the samples are labelled with, by key.
        rows: ``"train"``, and if there are any ``"val"`` and ``"test"``.
        selections: Of each of these splits.
        notes: Remarks for the user, line by line.
    """

    targets: Mapping[str, Target]
    rows: Mapping[str, Rows]
    selections: Mapping[str, Selection]
    notes: list[str]


def usable_splits(source: Source, unlabelled: Collection[str], *, val_split: bool) -> dict[str, str]:
    """The purposes ``"train"``, ``"val"`` and ``"test"``, and the splits that serve for them.

    Where no test split has labels, validation takes its place.

    Args:
        source: The source.
        unlabelled: Its splits that have no labels, as published test sets often have none.
        val_split: Whether a validation split beside a test split is used.

    Raises:
        UserError: There is no test split.
    """
    splits = {name: name for name in source.splits if name == "train" or name not in unlabelled}
    if "test" not in splits and "val" in splits:
        splits["test"] = splits.pop("val")
    if "test" not in splits and not source.in_python:
        bare = source.splits.get("test")
        none = f" with labels ({bare.location(0)} and on: none)" if bare else ""
        raise UserError(f"{source.text} has no test split{none}; add one, e.g. test.parquet or test/<class>/")
    if not val_split:
        splits.pop("val", None)
    return splits
