"""The one exception a user sees, and how its line shows what the user gave."""

from __future__ import annotations

import difflib
import os
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import PurePath
from typing import Any

__all__ = ["UserError", "an_object", "cut", "error_text", "guess", "shown"]

LONGEST = 2000  # characters of a line
LONGEST_WORD = 300  # of a path or a name, which nobody reads to its end
LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD + 1},}}")


class UserError(ValueError):
    """A mistake that the user can mend: one line that names the culprit and the remedy.

    A setting to give stands in it between single backticks, as Python has it: ``resume=True``, or
    ``fit(..., resume=True)`` where it is another function's. The command line shows these as its flags,
    prints the line without a traceback and exits with code 2. What the user gave stands in it as
    :func:`shown`. What a name brings along all the same is no part of the line: breaks become spaces,
    what no terminal shows is escaped, and of a word of more than 300 characters the middle is left out.
    """

    def __init__(self, line: str = "") -> None:
        line = " ".join(part.strip() for part in _shortened(line).splitlines())
        super().__init__(_shortened("".join(c if c.isprintable() else repr(c)[1:-1] for c in line)))


def _shortened(line: str) -> str:
    return cut(LONG_WORD.sub(lambda word: cut(word[0], LONGEST_WORD), line), LONGEST)


def shown(value: object, limit: int = 200) -> str:
    """A value of the user's as a message shows it: its ``repr``, shortened, in finite time and memory.

    Args:
        value: Anything: also what contains itself, has a million items or digits, or cannot be printed.
        limit: Characters at most; the middle of a longer text is left out.
    """
    try:
        return cut(_Short(limit).repr(value), limit)
    except Exception:  # of its own __len__, __iter__, __getitem__ ...
        return f"<{type(value).__name__}>"


def cut(text: str, limit: int) -> str:
    """A text of at most so many characters; the middle of a longer one is left out."""
    end = (limit - 3) // 2
    return text if len(text) <= limit else f"{text[: limit - 3 - end]}...{text[len(text) - end :]}"


def error_text(error: BaseException) -> str:
    """What an error of another library or of the user's code says, in one line of at most 200 characters."""
    return cut(" ".join(str(error).split()) or type(error).__name__, 200)


def an_object(value: object) -> str:
    """The class of a value with its article: ``"a list"``, ``"an ImageFolder"``."""
    name = type(value).__name__
    return f"{'an' if re.match('[AEIOaeio]|nd', name) else 'a'} {name}"


def guess(word: object, words: Iterable[str]) -> str:
    """``" (did you mean 'vgg7'?)"`` where one of the words is close to the mistaken one, else nothing."""
    if not isinstance(word, (str, os.PathLike)) or len(str(word)) > 100:  # the comparison is quadratic
        return ""
    words = list(words)
    close = [each for each in words if each.casefold() == str(word).casefold()]
    close += difflib.get_close_matches(str(word), words, n=1)
    return f" (did you mean {shown(close[0])}?)" if close else ""


class _Short(reprlib.Repr):
    """The representations of what may be endless: lists in lists in lists, six items of each."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = self.maxstring = limit
        self.maxlevel = 3
        self.maxdict = 6

    def repr1(self, x: Any, level: int) -> str:
        """Show a value by its kind, also where its class is one of the user's own."""
        for kind, show in self._kinds().items():
            if isinstance(x, kind) and not isinstance(x, bool):
                return show(x, level)
        return self.repr_instance(x, level)

    def repr_dict(self, x: Mapping[Any, Any], level: int) -> str:
        """Show keys in the order in which they were given."""
        if level <= 0 and x:
            return "{...}"
        pieces = [
            f"{self.repr1(key, level - 1)}: {self.repr1(item, level - 1)}"
            for key, item in islice(x.items(), self.maxdict)
        ]
        return f"{{{', '.join(pieces + ['...'] * (len(x) > self.maxdict))}}}"

    def repr_bytes(self, x: bytes, level: int) -> str:
        """Show as much of a buffer as there is room for."""
        return cut(repr(x[: self.limit]) + "..." * (len(x) > self.limit), self.limit)

    def repr_int(self, x: int, level: int) -> str:
        """Show the size of a number that Python refuses to write out."""
        return cut(repr(x), self.limit) if x.bit_length() < 4000 else f"<a number of {x.bit_length()} bits>"

    def repr_instance(self, x: Any, level: int) -> str:
        """Show the class of what cannot show itself."""
        try:
            return cut(" ".join(repr(x).split()), self.limit)
        except Exception:
            return f"<{type(x).__name__}>"

    def _kinds(self) -> dict[type, Callable[[Any, int], str]]:
        return {
            str: self.repr_str,
            PurePath: lambda x, level: self.repr_str(str(x), level),
            list: self.repr_list,
            tuple: self.repr_tuple,
            Mapping: self.repr_dict,
            set: self.repr_set,
            frozenset: self.repr_frozenset,
            bytes: self.repr_bytes,
            int: self.repr_int,
        }
