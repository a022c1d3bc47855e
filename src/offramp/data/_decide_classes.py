"""Which classes a set has: those that it names, those given, or else those that its training split shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor

from offramp.data._classes import Classes
from offramp.data._labels import Labels, is_number
from offramp.data._stored import StoredColumn
from offramp.data.class_names import class_names
from offramp.errors import UserError, shown

__all__ = ["MANY", "decide_classes", "segment_classes"]

MOST = 10_000_000  # classes that are worth a name each; a net with more outputs is a mistake
MANY = 100_000  # above this number, different labels are more likely no classes


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
        names = _given_names(classes)
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
            f"{shown(other)} ({location(labels.first_row(other))}); make all of them numbers, or all words"
        )
    if isinstance(classes, int) and int in examples:
        return Classes(tuple(map(str, range(_counted(classes)))), True, left_out)
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


def segment_classes(
    column: StoredColumn, maps: Tensor, classes: int | Sequence[object] | None
) -> Sequence[object]:
    """The classes of a segmentation: those given, or else 0 to the largest that a pixel has.

    Raises:
        UserError: None are given, and most of the numbers up to the largest occur nowhere: it may stand for
            none, as 255 does in some sets.
    """
    if isinstance(classes, Sequence):
        return _given_names(classes)
    if classes is not None:
        return range(_counted(classes))
    top = int(maps.max())
    seen = int((maps[maps >= 0].bincount() > 0).sum()) if top < MANY else 0
    if top >= MANY or top + 1 > 2 * max(seen, 1):
        row = int((maps == top).flatten(1).any(1).nonzero()[0])
        few = f", and most numbers below it are nowhere ({seen} classes are)" if seen else ""
        say = f", or say how many classes there are by `classes={top + 1}`" if top < MOST else ""
        raise UserError(
            f"{column.where(row)} has pixels of class {top}{few}; write -1 where a pixel has none{say}"
        )
    return range(max(top + 1, 1))


def _given_names(classes: Sequence[object]) -> tuple[str, ...]:
    """Names of classes that somebody gave.

    Raises:
        UserError: They are one word, which is no list of them, one is no name, or one is given twice.
    """
    if isinstance(classes, str):
        raise UserError(f"classes={shown(classes)} must be their number, or a list of all of them")
    names = class_names([*classes], "classes")
    if len(set(names)) < len(names):
        raise UserError("classes has a name twice; give each once")
    return names


def _counted(classes: int) -> int:
    """A number of classes that somebody gave.

    Raises:
        UserError: It is below 1, or so large that their names alone would fill the memory.
    """
    if not 1 <= classes <= MOST:
        raise UserError(
            f"classes={shown(classes)} must be 1 to {MOST:,}; where labels are larger, number them from 0 on"
        )
    return classes


def _say_that_they_are(values: Sequence[Any]) -> str:
    """How to say that so many different labels, sorted, are classes."""
    number = values[-1] + 1 if is_number(values[-1]) else len(values)
    if number > MOST:
        return f"number them 0 ... {len(values) - 1} and say that they are, by `classes={len(values)}`"
    return f"say that they are, by `classes={number}`"
