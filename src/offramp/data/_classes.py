"""Classes of a data set and the class of each sample: one rule for labels of every kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from offramp.data._labels import Labels, is_number
from offramp.data._rows import Rows
from offramp.errors import UserError, shown

__all__ = ["Classes", "LabelledSplit"]

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


def _sorted(values: Iterable[Any]) -> list[Any]:
    return sorted(values, key=lambda value: (isinstance(value, str), value))
