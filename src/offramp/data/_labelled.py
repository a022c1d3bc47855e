"""The splits of a source that have labels, and what their user should know of the labels."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence

from offramp.data._classes import Classes, LabelledSplit
from offramp.data._labels import Labels, is_number
from offramp.data._sources import Source
from offramp.errors import UserError

__all__ = ["absent_labels", "labelled_splits", "numbering_note"]


def labelled_splits(
    source: Source,
    all_splits: Mapping[str, LabelledSplit],
    *,
    val_split: bool,
    classes: int | Sequence[object] | None,
) -> dict[str, LabelledSplit]:
    """The splits that have labels; where no test split has, validation takes its place."""
    splits = dict(all_splits)
    listed = set(map(str, classes)) if isinstance(classes, Sequence) else set()
    for name, (_, labels) in list(splits.items()):
        missing = [
            value for value in labels.values if is_number(value) and value < 0 and str(value) not in listed
        ]
        if name != "train" and len(missing) == len(labels.values):  # published test sets are often without
            del splits[name]
    if "test" not in splits and "val" in splits:
        splits["test"] = splits.pop("val")
    if "test" not in splits and not source.in_python:
        unlabelled = source.splits.get("test")
        none = f" with labels ({unlabelled.location(0)} and on: none)" if unlabelled else ""
        raise UserError(f"{source.text} has no test split{none}; add one, e.g. test.parquet or test/<class>/")
    if not val_split:
        splits.pop("val", None)
    return splits


def numbering_note(classes: Classes, split: LabelledSplit) -> list[str]:
    """A note on labels that are whole numbers, but not 0, 1, 2, ..."""
    _, labels = split
    names = classes.names
    if (
        classes.by_index
        or not any(map(is_number, labels.values))
        or names == tuple(map(str, range(len(names))))
    ):
        return []
    shown = ", ".join(names if len(names) <= 8 else [*names[:5], "...", names[-1]])
    return [
        f"the labels are not 0 ... {len(names) - 1} but {shown}: {len(names)} classes, called by their labels"
    ]


def absent_labels(ignored: Iterable[str], labels: Sequence[Labels]) -> list[str]:
    """A note on labels to ignore that no image has."""
    present = list(dict.fromkeys(value for of_split in labels for value in of_split.values))
    absent = sorted(set(ignored) - set(map(str, present)))
    if not absent:
        return []
    return [
        f"ignore_label: no sample has the label {', '.join(absent)}; the labels are {reprlib.repr(present)}"
    ]
