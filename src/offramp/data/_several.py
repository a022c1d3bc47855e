"""Sets with several targets for each sample, some of which it may lack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from offramp.data._classes import Classes
from offramp.data._decide_classes import decide_classes, segment_classes
from offramp.data._kind import kind_of
from offramp.data._labels import Labels, is_number
from offramp.data._map_values import maps
from offramp.data._selection import Selection
from offramp.data._sources import Source
from offramp.data._splits import LabelledSplits, usable_splits
from offramp.data._stored import StoredColumn
from offramp.data._target_values import matrix, width_of
from offramp.data.asked import Asked
from offramp.data.class_names import numbering_note, shared_names
from offramp.data.target_tensors import TargetTensors
from offramp.data.targets import DENSE, NO_LABEL, Target
from offramp.errors import UserError, shown

__all__ = ["several_targets"]

Found = tuple[Target, dict[str, Tensor]]  # a target, and its Tensor in each split


def several_targets(
    source: Source,
    asked: Mapping[str, Asked],
    *,
    val_split: bool,
    classes: int | Sequence[object] | None,
    ignored: Sequence[object],
    known: Mapping[str, Target] | None = None,
) -> LabelledSplits:
    """The splits of a set with the targets that are asked for.

    A sample lacks a target that is null, None or NaN in its row, and a class that is a negative number or
    one to be ignored. A sample that lacks all targets is left out, and a split of such samples alone is one
    without labels.

    Args:
        source: The set.
        asked: The column of each target.
        val_split: Whether a validation split beside a test split is used.
        classes: See :func:`~offramp.data.opening.open_data`; of the only target that has classes.
        ignored: Labels of samples that are to have no class.
        known: The targets of a net that is trained already.

    Raises:
        UserError: A column is missing, holds nothing or no such target.
    """
    columns = {
        key: {name: rows.column(of.column) for name, rows in source.splits.items()}
        for key, of in asked.items()
    }
    kinds = {key: of.kind or kind_of(key, columns[key]["train"]) for key, of in asked.items()}
    with_classes = [key for key, kind in kinds.items() if kind in ("class", "segmentation")]
    if classes is not None and len(with_classes) != 1 and known is None:
        raise UserError(
            f"classes={shown(classes)} are of one target, and {' and '.join(with_classes) or 'none'} of "
            "`tasks` has classes; leave it out"
        )
    found = {
        key: _found(key, kind, columns[key], classes, ignored, known[key] if known else None)
        for key, kind in kinds.items()
    }
    targets = {key: target for key, (target, _) in found.items()}
    _check_stays(source, targets)
    present = {
        name: torch.stack([target.present(tensors[name]) for target, tensors in found.values()])
        for name in source.splits
    }
    for key, here in zip(targets, present["train"], strict=True):
        if not here.any():
            column = columns[key]["train"]
            raise UserError(
                f"{column.where(0)} and on: no training sample has a value; fill the column, or leave "
                f"{shown(key)} out of `tasks`"
            )
    labelled = {name: here.any(dim=0) for name, here in present.items()}
    unlabelled = [name for name, here in labelled.items() if not here.any()]
    places = usable_splits(source, unlabelled, val_split=val_split)

    def selection(name: str) -> Selection:
        tensors = {key: of_splits[name] for key, (_, of_splits) in found.items()}
        whole = Selection(torch.arange(len(source.splits[name])), TargetTensors(tensors, targets))
        return whole.part(labelled[name])

    return LabelledSplits(
        targets=targets,
        rows={purpose: source.splits[name] for purpose, name in places.items()},
        selections={purpose: selection(name) for purpose, name in places.items()},
        notes=[
            *_notes_on_classes(targets, columns),
            *_notes(targets, {purpose: present[name] for purpose, name in places.items()}),
        ],
    )


def _check_stays(source: Source, targets: Mapping[str, Target]) -> None:
    """Check that no split moves its images by itself away from targets that would have to move with them."""
    spatial = [key for key, target in targets.items() if target.spatial]
    for rows in source.splits.values():
        if spatial and rows.random:
            raise UserError(
                f"{rows.location(0)}: the set draws random numbers of its own, which may move images away "
                f"from their {', '.join(spatial)}; leave them out, and have both moved by `augment=...`"
            )


def _found(
    key: str,
    kind: str,
    columns: Mapping[str, StoredColumn],
    classes: int | Sequence[object] | None,
    ignored: Sequence[object],
    known: Target | None,
) -> Found:
    """A target of some kind, in the columns of all splits."""
    if kind == "class":
        given = known.classes if known and columns["train"].class_names is None else classes
        return _class(key, columns, given, ignored)
    if kind in DENSE:
        return _maps(kind, columns, classes, known)
    return _numbers(kind, columns, known)


def _numbers(kind: str, columns: Mapping[str, StoredColumn], known: Target | None) -> Found:
    """A target that is read as numbers."""
    size = width_of(columns["train"]) if known is None else known.size
    size = 4 if kind == "box" else size
    names = tuple(map(str, range(size))) if kind == "labels" else ()
    target = known or Target(kind, names, size)
    return target, {name: matrix(column, kind, size) for name, column in columns.items()}


def _maps(
    kind: str,
    columns: Mapping[str, StoredColumn],
    classes: int | Sequence[object] | None,
    known: Target | None,
) -> Found:
    """A target for every pixel."""
    train = maps(columns["train"], known or Target(kind))
    names: Sequence[object] = ()
    if kind == "segmentation":
        names = segment_classes(columns["train"], train, classes)
    target = known or Target(kind, tuple(map(str, names)))
    return target, {name: maps(column, target, train[0]) for name, column in columns.items()}


def _class(
    key: str,
    columns: Mapping[str, StoredColumn],
    classes: int | Sequence[object] | None,
    ignored: Sequence[object],
) -> Found:
    """A target that is a class, which samples with a label to ignore and negative ones lack."""
    labels = {name: _labels(key, column) for name, column in columns.items()}
    train = columns["train"]
    listed = set(map(str, classes)) if isinstance(classes, Sequence) else set()
    none = {
        value
        for of_split in labels.values()
        for value in of_split.values
        if is_number(value) and value < 0 and str(value) not in listed
    }
    left_out = [*ignored, *none]
    if all(str(value) in set(map(str, left_out)) for value in labels["train"].values):
        raise UserError(
            f"{train.where(0)} and on: no training sample has a class; label some, or leave {shown(key)} "
            "out of `tasks`"
        )
    known = decide_classes(labels["train"], train.class_names, train.location, classes, left_out)
    return Target("class", known.names), {
        name: _indices(known, labels[name], column) for name, column in columns.items()
    }


def _labels(key: str, column: StoredColumn) -> Labels:
    for row, value in enumerate(column.values):
        if isinstance(value, (bool, int, str, type(None))) or (
            isinstance(value, float) and value.is_integer()
        ):
            continue
        raise UserError(
            f"{column.where(row)} is {shown(value)}, which is no class; mend it, or say what else the column "
            f"holds, e.g. `tasks={{{key}: {column.name}:values}}`"
        )
    return Labels.of(column.values, column.location)


def _indices(known: Classes, labels: Labels, column: StoredColumn) -> Tensor:
    """The class of each row, int64 ``[N]``; -100 where it has none."""
    indices, unknown = known.indices(labels, column.class_names)
    if unknown:
        label = min(unknown, key=labels.first_row)
        raise UserError(
            f"{column.where(labels.first_row(label))} is {shown(label)}, none of the classes "
            f"{_short(known.names)} ({labels.count(unknown)} such rows); correct it, or let such rows have "
            f"no class by `ignore_label={shown(unknown[0] if len(unknown) == 1 else unknown)}`"
        )
    return torch.from_numpy(np.where(indices < 0, NO_LABEL, indices))


def _notes_on_classes(
    targets: Mapping[str, Target], columns: Mapping[str, Mapping[str, StoredColumn]]
) -> list[str]:
    """What the names of classes do not tell."""
    notes = []
    for key, target in targets.items():
        if target.kind == "class" and columns[key]["train"].class_names is None:
            notes += [f"{shown(key)}: {note}" for note in numbering_note(target.classes)]
        notes += [f"{shown(key)}: {note}" for note in shared_names(target.classes)]
    return notes


def _notes(targets: Mapping[str, Target], present: Mapping[str, Tensor]) -> list[str]:
    """How many samples lack which target, and how many lack all of them."""
    counts = {
        key: _counted({name: ~here[row] for name, here in present.items()}) for row, key in enumerate(targets)
    }
    notes = [
        f"no {shown(key)}: {of_key}, which its loss leaves out" for key, of_key in counts.items() if of_key
    ]
    if bare := _counted({name: ~here.any(dim=0) for name, here in present.items()}):
        notes.append(f"no target at all: {bare}, which are left out")
    return notes


def _counted(rows: Mapping[str, Tensor]) -> str:
    """How many rows of each split are meant; empty if none is.

    Args:
        rows: Of each split, bool ``[N]``.
    """
    parts = [
        f"{int(of.sum()):,} of {len(of):,} {'training' if name == 'train' else name}"
        for name in ("train", "val", "test")
        if name in rows and (of := rows[name]).any()
    ]
    return f"{', '.join(parts)} samples" if parts else ""


def _short(names: Sequence[str]) -> str:
    shown = [*names] if len(names) <= 6 else [*names[:5], "..."]
    return ", ".join(map(str, shown))
