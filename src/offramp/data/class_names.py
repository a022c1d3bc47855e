"""Names of classes as text: what a set, a folder or a user calls them, checked when the set is opened."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

from offramp.errors import UserError, cut, shown

__all__ = ["check_name", "class_names", "numbering_note", "shared_names"]

LONGEST = 255  # characters, as many as the name of a folder may have
UNPRINTABLE = ("Cc", "Cs")  # control characters and surrogates, which not every table or terminal takes


def class_names(names: Any, where: str, *, whose: str = "class") -> tuple[str, ...]:
    """Names of the classes 0, 1, ... as text, which whole numbers and truth values become.

    Args:
        names: What is said to be the names.
        where: Begins an error.
        whose: What an error calls one of them.

    Raises:
        UserError: They are no list, or one of them is of another kind, empty, longer than 255 characters, or
            has characters that cannot be printed.
    """
    if not isinstance(names, (list, tuple)):
        raise UserError(
            f"{where}: the names of the classes are {shown(names)}, no list; give a list of words"
        )
    return tuple(_as_text(name, f"{where}: {whose} {number}") for number, name in enumerate(names))


def shared_names(names: Sequence[str]) -> list[str]:
    """A note on classes of one name, such as ImageNet has: no table tells them apart."""
    twice = {name: count for name, count in Counter(names).items() if count > 1}
    if not twice:
        return []
    name = next(iter(twice))
    numbers = [str(number) for number, other in enumerate(names) if other == name][:5]
    more = f", and {len(twice) - 1} more names are shared" if len(twice) > 1 else ""
    return [
        f"{twice[name]} classes are called {shown(name, 60)} ({', '.join(numbers)}"
        f"{', ...' * (twice[name] > 5)}){more}: tables and predictions do not tell them apart"
    ]


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


def check_name(name: str, where: str) -> None:
    """Check that a text can be a name in tables, files and on terminals.

    Raises:
        UserError: It is empty, longer than 255 characters, or has characters that cannot be printed.
    """
    if len(name) > LONGEST:
        raise UserError(
            f"{where} has a name of more than {LONGEST} characters, which is hardly one; shorten it"
        )
    if not name.strip():
        raise UserError(f"{where} has an empty name; give it one")
    if any(unicodedata.category(letter) in UNPRINTABLE for letter in name):
        raise UserError(
            f"{where} is called {shown(name)}, which has characters that cannot be printed; take them out"
        )


def _as_text(name: Any, where: str) -> str:
    if not isinstance(name, (str, int)):
        raise UserError(f"{where} is called {shown(name)}, which is no text; give every class a name")
    text = name if isinstance(name, str) else shown(name, LONGEST + 1)  # a number may have a million digits
    check_name(text, where)
    return str(text)
