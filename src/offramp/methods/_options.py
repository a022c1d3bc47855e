"""The options of a method by name: qualified, and short where one part alone has such a field."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from offramp.checks import plain
from offramp.errors import UserError, guess, shown

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """The fields of a method's parts.

    The qualified name of one is the name of the row that brings the part, a dot and the field: ``kd.alpha``.
    A part that has no such row goes by its class's name in lower case: ``taskloss.weights``.

    Attributes:
        method: The method's name.
        parts: Its parts, of different classes.
        rows: Class of a part -> name of the row that brings it.
    """

    method: str
    parts: Sequence[Any]
    rows: Mapping[type, str]

    def bringer(self, part: Any) -> str:
        """Name that qualifies a part's options: of the row that brings the part, or of its class."""
        return self.rows.get(type(part), type(part).__name__.lower())

    @property
    def fields(self) -> dict[str, tuple[Any, str]]:
        """Qualified name -> the part and its field."""
        return {
            f"{self.bringer(part)}.{field.name}": (part, field.name)
            for part in self.parts
            for field in dataclasses.fields(part)
        }

    def named(self, key: str) -> list[str]:
        """Qualified names of the options that a name may mean: none, one, or several if it is ambiguous."""
        fields = self.fields
        return [key] if key in fields else [name for name, (_, field) in fields.items() if field == key]

    @property
    def short(self) -> dict[str, tuple[Any, str]]:
        """Short name, or the qualified one where it means several options -> the part and its field."""
        return {
            place[1] if len(self.named(place[1])) == 1 else name: place for name, place in self.fields.items()
        }

    @property
    def values(self) -> dict[str, Any]:
        """All options and their values, by their short names where these mean one option only."""
        return {name: dataclasses.asdict(part)[field] for name, (part, field) in self.short.items()}

    def changes(self, options: Mapping[str, Any]) -> dict[type, dict[str, Any]]:
        """New values by the class of the part and its field; of two names for one option the later counts.

        Raises:
            UserError: No such option, or a short name that several parts have.
        """
        changed: dict[type, dict[str, Any]] = {}
        for key, value in options.items():
            part, field = self.fields[self._resolve(key)]
            changed.setdefault(type(part), {})[field] = plain(value)
        return changed

    def _resolve(self, key: str) -> str:
        names = self.named(key)
        if not names:
            known = self.values
            raise UserError(
                f"method {shown(self.method)} has no option {shown(key)}{guess(key, known)}; it has: "
                f"{', '.join(known)}"
            )
        if len(names) > 1:
            raise UserError(
                f"method {shown(self.method)}: several of its parts have an option {shown(key)}; "
                f"say which: {' or '.join(names)}"
            )
        return names[0]
