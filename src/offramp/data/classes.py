"""Which classes a set has, and which of them each sample is of: one rule for labels of every kind."""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from offramp.data.labels import Labels, is_number
from offramp.data.rows import Rows
from offramp.errors import UserError

__all__ = ["MANY", "Classes", "Labelled", "classes_of"]

MANY = 100_000  # so many different labels are more likely no classes
LISTED = 12  # so many values a remedy spells out

Labelled = tuple[Rows, Labels]  # a split


@dataclass(frozen=True)
class Classes:
    """The classes that a net tells apart, in their order.

    Attributes:
        names: What they are called.
        by_place: Whether a label that is a whole number is a place in `names`, not one of them.
        ignored: Labels, as text, of samples to leave out.
    """

    names: tuple[str, ...]
    by_place: bool
    ignored: frozenset[str] = frozenset()

    @cached_property
    def _places(self) -> Mapping[str, int]:
        count = Counter(self.names)
        return {name: place for place, name in enumerate(self.names) if count[name] == 1}

    def place(self, value: Any, names: Sequence[str] | None) -> int | None:
        """The class of a label.

        Args:
            value: As it is stored.
            names: Those by which its own split calls the places 0, 1, ..., if it does.

        Returns:
            A place in `names` of this object; None if there is none.
        """
        if is_number(value):
            if names is not None and tuple(names) != self.names:  # e.g. the same classes in another order
                return self._places.get(names[value]) if 0 <= value < len(names) else None
            if self.by_place:
                return value if 0 <= value < len(self.names) else None
        return self._places.get(str(value))

    def find(self, splits: Mapping[str, Labelled]) -> dict[str, tuple[Tensor, Tensor]]:
        """Find the rows of each split whose labels are not ignored, and their classes, both int64 ``[N]``.

        Raises:
            UserError: A row has no label, or one that is no class; or no row is left.
        """
        chosen, strangers = {}, {}
        for split, (rows, labels) in splits.items():
            if (labels.codes == -1).any():
                raise UserError(f"{rows.where(labels.first(None))}: no label; label or remove the row")
            known = {v: self.place(v, rows.class_names) for v in labels.values if str(v) not in self.ignored}
            if not known:
                raise UserError(
                    f"{rows.where(0)}: its label is ignored, and so are all others of its split; "
                    "leave fewer out by `ignore_label=...`"
                )
            strangers[split] = [value for value, place in known.items() if place is None]
            places = [known.get(value) for value in labels.values]
            classes = np.array([-1 if place is None else place for place in places], np.int64)[labels.codes]
            kept = np.flatnonzero(classes >= 0)
            chosen[split] = torch.from_numpy(kept), torch.from_numpy(classes[kept])
        for split, values in strangers.items():
            if values:
                emptied = any(strangers[s] and not len(kept) for s, (kept, _) in chosen.items())
                raise UserError(self._about(split, strangers, splits, can_ignore=not emptied))
        return chosen

    def _about(
        self,
        split: str,
        strangers: Mapping[str, list[Any]],
        splits: Mapping[str, Labelled],
        *,
        can_ignore: bool,
    ) -> str:
        """Say which labels of a split are no classes, with remedies that are good for all splits."""
        rows, labels = splits[split]
        label = min(strangers[split], key=labels.first)
        negative = is_number(label) and label < 0
        reason = "means that there is none" if negative else f"is none of {reprlib.repr(list(self.names))}"
        remedies = ["correct it"]
        if can_ignore:
            every = _sorted({value for values in strangers.values() for value in values})
            ignore = every[0] if len(every) == 1 else every
            remedies.append(f"leave such rows out by `ignore_label={ignore!r}`")
        if rows.class_names is None and not self.by_place:
            every = _sorted(
                {v for _, other in splits.values() for v in other.values if str(v) not in self.ignored}
            )
            many = f"[{_sorted([*every])[0]!r}, ...]"
            remedies.append(f"make it a class by `classes={every if len(every) <= LISTED else many}`")
        count = labels.count(strangers[split])
        return f"{rows.where(labels.first(label))}: label {label!r} {reason} ({count} such rows); " + (
            ", or ".join(remedies)
        )


def classes_of(split: Labelled, given: int | Sequence[object] | None, ignored: Iterable[object]) -> Classes:
    """Decide which classes a set has.

    Those that the set names, seen or not; or else those given; or else the different labels of its training
    split in their order, whatever they are.

    Args:
        split: The training split.
        given: How many classes there are: whole numbers from 0 on, seen or not. Or all of them in order: the
            labels themselves, or, where these are whole numbers, words for 0, 1, ...
        ignored: Labels of samples to leave out.

    Raises:
        UserError: More different labels than classes are likely, or not the number given; or labels of
            several kinds.
    """
    rows, labels = split
    named, left_out = rows.class_names, frozenset(map(str, ignored))
    if isinstance(given, Sequence):
        names = tuple(map(str, given))
        return Classes(names, not any(name.removeprefix("-").isdecimal() for name in names), left_out)
    if named is not None:
        if given not in (None, len(named)):
            raise UserError(
                f"{rows.where(0)}: the set names {len(named)} classes itself; leave `classes={given}` out"
            )
        return Classes(named, True, left_out)
    used = [value for value in labels.values if str(value) not in left_out]
    kinds = {type(value): value for value in reversed(used)}  # the first of each
    if len(kinds) > 1:
        first, other = sorted(kinds.values(), key=labels.first)[:2]
        raise UserError(
            f"{rows.where(labels.first(first))}: label {first!r} is of another kind than {other!r} "
            f"({rows.where(labels.first(other))}); make all of them numbers, or all words"
        )
    if isinstance(given, int) and int in kinds:
        return Classes(tuple(map(str, range(given))), True, left_out)
    values = sorted(value for value in used if not is_number(value) or value >= 0)
    if given is None and len(values) > MANY:
        raise UserError(
            f"{rows.where(0)} and on: {len(values):,} different labels, which are hardly classes; choose "
            "another column by `label=...`, or say that they are, by "
            f"`classes={len(values) if int not in kinds else values[-1] + 1}`"
        )
    if given not in (None, len(values)):
        raise UserError(
            f"{rows.where(0)} and on: {len(values)} different labels, not {given}; leave `classes` out"
        )
    return Classes(tuple(map(str, values)), False, left_out)


def _sorted(values: Iterable[Any]) -> list[Any]:
    return sorted(values, key=lambda value: (isinstance(value, str), value))
