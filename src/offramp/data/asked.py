"""The targets that a user asks for: ``{"class": "label", "box": "box"}``, or ``"class:label,box:box"``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from offramp.data.targets import KINDS
from offramp.errors import UserError, guess, shown

__all__ = ["Asked", "asked_targets", "parse_tasks"]

EXAMPLE = "{class: label, box: box} or class:label,box:box"


class Asked(NamedTuple):
    """A target that is asked for.

    Attributes:
        column: The column, or the key of a sample's targets, that holds it.
        kind: Its kind; None: as the column shows.
    """

    column: str
    kind: str | None = None


def parse_tasks(tasks: Any) -> dict[str, str]:
    """What a user gives as ``tasks``, as a mapping from names to ``"column"`` or ``"column:kind"``.

    Raises:
        UserError: It is something else.
    """
    if isinstance(tasks, str):
        tasks = _of_text(tasks)
    if not isinstance(tasks, Mapping) or not tasks:
        raise UserError(f"tasks is {shown(tasks)}, must be names with their columns, e.g. {EXAMPLE}")
    for name, column in tasks.items():
        if not isinstance(name, str) or not isinstance(column, str) or not name or not column:
            raise UserError(
                f"tasks has {shown(name)}: {shown(column)}, must be a name and a column, e.g. {EXAMPLE}"
            )
    return dict(tasks)


def asked_targets(tasks: Mapping[str, str]) -> dict[str, Asked]:
    """The column and the kind of each target; what stands behind a last colon is a kind if it names one."""
    found = {}
    for name, text in tasks.items():
        column, colon, kind = text.rpartition(":")
        found[name] = Asked(column, kind) if colon and column and kind in KINDS else Asked(text)
    return found


def _of_text(text: str) -> dict[str, str]:
    tasks: dict[str, str] = {}
    for part in text.split(","):
        name, colon, column = (word.strip() for word in part.partition(":"))
        if not colon or not name or not column:
            raise UserError(f"tasks has {shown(part)}, must be names with their columns, e.g. {EXAMPLE}")
        kind = column.partition(":")[2]
        if kind and kind not in KINDS:
            raise UserError(
                f"tasks has {shown(part)}, and {shown(kind)} is no kind of target{guess(kind, KINDS)}; "
                f"there are {', '.join(KINDS)}"
            )
        if name in tasks:
            raise UserError(f"tasks has {shown(name)} twice; give each target a name of its own")
        tasks[name] = column
    return tasks
