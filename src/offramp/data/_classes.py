"""Classes of a data set and the class of each sample: one rule for labels of every kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from offramp.data._class_names import class_names
from offramp.data._labels import Labels, is_number
from offramp.data._rows import Rows
from offramp.errors import UserError, cut, shown

__all__ = [
    "MANY",
    "MOST",
    "Classes",
    "LabelledSplit",
    "counted",
    "decide_classes",
    "given_names",
    "numbering_note",
]

MOST = 10_000_000  # classes that are worth a name each; a net with more outputs is a mistake
MANY = 100_000  # above this number, different labels are more likely no classes
LISTED = 12  # the largest number of values that a remedy spells out

LabelledSplit = tuple[Rows, Labels]


@dataclass(frozen=True)
class Classes:
    """The classes that a net tells apart, in their order.

    Attributes:
        names: Their names.
        by_index: Whether a label that is a whole number is an index into `names`, not one of them.
        ignored: Labels, as text, of samples to leave out.
    """

    names: tuple[str, ...]
    by_index: bool
    ignored: frozenset[str] = frozenset()

    @cached_property
    def _indices(self) -> Mapping[str, int]:
        count = Counter(self.names)
        return {name: index for index, name in enumerate(self.names) if count[name] == 1}

    def index(self, value: Any, names: Sequence[str] | None) -> int | None:
        """Class index of a label.

        Args:
            value: The label as it is stored.
            names: Names of the classes 0, 1, ... in its own split, if that has any.

        Returns:
            Position in `names` of this object; None if there is none.
        """
        if is_number(value):
            if names is not None and tuple(names) != self.names:  # e.g. the same classes in another order
                return self._indices.get(names[value]) if 0 <= value < len(names) else None
            if self.by_index:
                return value if 0 <= value < len(self.names) else None
        return self._indices.get(str(value))

    def indices(self, labels: Labels, names: Sequence[str] | None) -> tuple[np.ndarray, list[Any]]:
        """The class of each row, int64 ``[N]``, -1 where it has none; and the labels that are no classes.

        Args:
            labels: The labels.
            names: Names of the classes 0, 1, ... in their own split, if that has any.
        """
        found = {v: self.index(v, names) for v in labels.values if str(v) not in self.ignored}
        codes = [-1 if found.get(value) is None else found[value] for value in labels.values]
        unknown = [value for value, index in found.items() if index is None]
        return np.array([*codes, -1], np.int64)[labels.codes], unknown

    def select(self, splits: Mapping[str, LabelledSplit]) -> dict[str, tuple[Tensor, Tensor]]:
        """Rows of each split whose labels are not ignored, and their classes, both int64 ``[N]``.

        Raises:
            UserError: A row has no label, or one that is no class; or no row is left.
        """
        selections, unknown = {}, {}
        for split, (rows, labels) in splits.items():
            if (labels.codes == -1).any():
                raise UserError(f"{rows.location(labels.first_row(None))}: no label; label or remove the row")
            if all(str(value) in self.ignored for value in labels.values):
                raise UserError(
                    f"{rows.location(0)}: its label is ignored, and so are all others of its split; "
                    "leave fewer out by `ignore_label=...`"
                )
            classes, unknown[split] = self.indices(labels, rows.class_names)
            kept = np.flatnonzero(classes >= 0)
            selections[split] = torch.from_numpy(kept), torch.from_numpy(classes[kept])
        for split, values in unknown.items():
            if values:
                emptied = any(unknown[s] and not len(kept) for s, (kept, _) in selections.items())
                raise UserError(self._complaint(split, unknown, splits, can_ignore=not emptied))
        return selections

    def _complaint(
        self,
        split: str,
        unknown: Mapping[str, list[Any]],
        splits: Mapping[str, LabelledSplit],
        *,
        can_ignore: bool,
    ) -> str:
        """Say which labels of a split are no classes, with remedies that are good for all splits."""
        rows, labels = splits[split]
        label = min(unknown[split], key=labels.first_row)
        negative = is_number(label) and label < 0
        reason = "means that there is none" if negative else f"is none of {shown([*self.names])}"
        remedies = ["correct it"]
        if can_ignore:
            ignorable = _sorted({value for values in unknown.values() for value in values})
            ignore = ignorable[0] if len(ignorable) == 1 else ignorable
            remedies.append(f"leave such rows out by `ignore_label={shown(ignore)}`")
        if rows.class_names is None and not self.by_index:
            used = _sorted(
                {v for _, other in splits.values() for v in other.values if str(v) not in self.ignored}
            )
            few = f"[{shown(used[0])}, ...]"
            remedies.append(f"make it a class by `classes={used if len(used) <= LISTED else few}`")
        count = labels.count(unknown[split])
        return (
            f"{rows.location(labels.first_row(label))}: label {shown(label)} {reason} ({count} such rows); "
            + (", or ".join(remedies))
        )


def decide_classes(
    labels: Labels,
    named: tuple[str, ...] | None,
    location: Callable[[int], str],
    classes: int | Sequence[object] | None,
    ignored: Iterable[object],
) -> Classes:
    """Decide which classes a set has.

    They are those that the set names, seen or not; or else those given; or else the different labels of the
    training split in their order, whatever they are.

    Args:
        labels: The labels of the training split.
        named: Names of the classes 0, 1, ... of the set itself, if it has any.
        location: How an error names a row of the training split.
        classes: Their number, of labels that are whole numbers from 0 on, seen or not. Or all classes in
            order: the labels themselves, or, where these are whole numbers, words for 0, 1, ...
        ignored: Labels of samples to leave out.

    Raises:
        UserError: More different labels than classes are likely, or not the number given; or labels of
            several kinds.
    """
    left_out = frozenset(map(str, ignored))
    if isinstance(classes, Sequence):
        names = given_names(classes)
        return Classes(names, not any(name.removeprefix("-").isdecimal() for name in names), left_out)
    if named is not None:
        if classes not in (None, len(named)):
            raise UserError(
                f"{location(0)}: the set names {len(named)} classes itself; leave "
                f"`classes={shown(classes)}` out"
            )
        return Classes(named, True, left_out)
    used = [value for value in labels.values if str(value) not in left_out]
    examples = {type(value): value for value in reversed(used)}  # the first of each type
    if len(examples) > 1:
        label, other = sorted(examples.values(), key=labels.first_row)[:2]
        raise UserError(
            f"{location(labels.first_row(label))}: label {shown(label)} is of another kind than "
            f"{shown(other)} "
            f"({location(labels.first_row(other))}); make all of them numbers, or all words"
        )
    if isinstance(classes, int) and int in examples:
        return Classes(tuple(map(str, range(counted(classes)))), True, left_out)
    values = sorted(value for value in used if not is_number(value) or value >= 0)
    if classes is None and len(values) > MANY:
        raise UserError(
            f"{location(0)} and on: {len(values):,} different labels, which are hardly classes; choose "
            f"another column by `label=...`, or {_say_that_they_are(values)}"
        )
    if classes not in (None, len(values)):
        raise UserError(
            f"{location(0)} and on: {len(values)} different labels, not {shown(classes)}; leave `classes` out"
        )
    where = f"{location(labels.first_row(values[0]))} and on" if values else location(0)
    return Classes(class_names(values, where, whose="label"), False, left_out)


def given_names(classes: Sequence[object]) -> tuple[str, ...]:
    """Names of classes that somebody gave.

    Raises:
        UserError: One is no name, or given twice.
    """
    names = class_names([*classes], "classes")
    if len(set(names)) < len(names):
        raise UserError("classes has a name twice; give each once")
    return names


def counted(classes: int) -> int:
    """A number of classes that somebody gave.

    Raises:
        UserError: It is below 1, or so large that their names alone would fill the memory.
    """
    if not 1 <= classes <= MOST:
        raise UserError(
            f"classes={shown(classes)} must be 1 to {MOST:,}; where labels are larger, number them from 0 on"
        )
    return classes


def numbering_note(names: Sequence[str]) -> list[str]:
    """A note on classes that are called by labels that are whole numbers, but not 0, 1, 2, ..."""
    numbers = all(name.removeprefix("-").isdecimal() for name in names)
    if not numbers or [*names] == [str(number) for number in range(len(names))]:
        return []
    listed = ", ".join(names if len(names) <= 8 else [*names[:5], "...", names[-1]])
    return [
        f"the labels are not 0 ... {len(names) - 1} but {cut(listed, 200)}: {len(names)} classes, called by "
        "their labels"
    ]


def _say_that_they_are(values: Sequence[Any]) -> str:
    """How to say that so many different labels, sorted, are classes."""
    number = values[-1] + 1 if is_number(values[-1]) else len(values)
    if number > MOST:
        return f"number them 0 ... {len(values) - 1} and say that they are, by `classes={len(values)}`"
    return f"say that they are, by `classes={number}`"


def _sorted(values: Iterable[Any]) -> list[Any]:
    return sorted(values, key=lambda value: (isinstance(value, str), value))
