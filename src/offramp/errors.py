"""The one exception a user sees."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["UserError", "guess"]


class UserError(ValueError):
    """A mistake that the user can mend: one line that names the culprit and the remedy.

    A setting to give stands in it between single backticks, as Python has it: ``resume=True``, or
    ``fit(..., resume=True)`` where it is another function's. The command line shows these as its flags,
    prints the line without a traceback and exits with code 2.
    """


def guess(word: object, words: Iterable[str]) -> str:
    """``" (did you mean 'vgg7'?)"`` where one of the words is close to the mistaken one, else nothing."""
    close = difflib.get_close_matches(str(word), list(words), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
