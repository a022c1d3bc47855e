"""Warnings while a command runs, each a line of the command, without the place in the code it comes from."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["warnings_told"]

_IN_CPP = re.compile(r"\s*\(Triggered internally at [^)]*\)")  # as torch ends a warning from C++


@contextlib.contextmanager
def warnings_told(tell: Callable[[str], None]) -> Iterator[None]:
    """Hand on the text of each warning once: Python's, and what libraries log as warnings or worse.

    Python's filters decide as ever which are shown. Of several processes the first one tells.

    Args:
        tell: Gets the text.
    """
    told = set()
    silent = "TORCHELASTIC_RUN_ID" in os.environ and os.environ["RANK"] != "0"

    def once(text: str) -> None:
        text = _IN_CPP.sub("", text)
        if text not in told and not silent:
            told.add(text)
            tell(text)

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        once(str(message))

    def call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING:
            handle(logger, record)
        else:
            once(_text(record))

    shown, handle = warnings.showwarning, logging.Logger.callHandlers
    # libraries bring handlers of their own, in formats of their own, at any time: all pass here
    logging.Logger.callHandlers = call_handlers  # type: ignore[method-assign, assignment]
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = shown
        logging.Logger.callHandlers = handle  # type: ignore[method-assign]


def _text(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):  # arguments that do not fit the text
        return str(record.msg)
