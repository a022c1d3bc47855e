"""Sets of one class for each sample: their labelled splits, and what their user should know of the labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from offramp.data._decide_classes import decide_classes
from offramp.data._labels import Labels, is_number
from offramp.data._selection import Selection
from offramp.data._sources import Source
from offramp.data._splits import LabelledSplits, usable_splits
from offramp.data.class_names import numbering_note, shared_names
from offramp.data.target_tensors import TargetTensors
from offramp.data.targets import LABEL, Target
from offramp.errors import cut, shown

__all__ = ["one_class"]


def one_class(
    source: Source, *, val_split: bool, classes: int | Sequence[object] | None, ignored: Sequence[object]
) -> LabelledSplits:
    """The splits of a set whose samples have one class each; samples with a label to ignore are left out.

    Args:
        source: The set.
        val_split: Whether a validation split beside a test split is used.
        classes: See :func:`~offramp.data.opening.open_data`.
        ignored: Labels to ignore.

    Raises:
        UserError: A label is no class, or a split is missing.
    """
    all_labels = {name: rows.labels() for name, rows in source.splits.items()}
    listed = set(map(str, classes)) if isinstance(classes, Sequence) else set()
    unlabelled = [name for name, labels in all_labels.items() if _has_none(labels, listed)]
    places = usable_splits(source, unlabelled, val_split=val_split)
    splits = {purpose: (source.splits[name], all_labels[name]) for purpose, name in places.items()}
    rows, labels = splits["train"]
    known = decide_classes(labels, rows.class_names, rows.location, classes, ignored)
    targets = {LABEL: Target("class", known.names)}
    return LabelledSplits(
        targets=targets,
        rows={purpose: rows for purpose, (rows, _) in splits.items()},
        selections={
            purpose: Selection(chosen, TargetTensors({LABEL: indices}, targets))
            for purpose, (chosen, indices) in known.select(splits).items()
        },
        notes=[
            *([] if known.by_index else numbering_note(known.names)),
            *shared_names(known.names),
            *_absent_labels(known.ignored, [*all_labels.values()]),
        ],
    )


def _has_none(labels: Labels, listed: set[str]) -> bool:
    """Whether a split has no labels: negative numbers say so, unless they are among the listed classes."""
    return all(is_number(value) and value < 0 and str(value) not in listed for value in labels.values)


def _absent_labels(ignored: Iterable[str], labels: Sequence[Labels]) -> list[str]:
    """A note on labels to ignore that no image has."""
    present = list(dict.fromkeys(value for of_split in labels for value in of_split.values))
    absent = sorted(set(ignored) - set(map(str, present)))
    if not absent:
        return []
    return [
        f"ignore_label: no sample has the label {cut(', '.join(absent), 200)}; the labels are "
        f"{shown(present)}"
    ]
