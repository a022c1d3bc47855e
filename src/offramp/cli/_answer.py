"""Flags that every command has, and its answer, which is text or JSON."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from typing import Any

__all__ = ["OUTPUT", "Answer", "OutputFlags", "emit"]


@dataclass(frozen=True)
class OutputFlags:
    """The flags of every command."""

    json: bool = False
    """print one JSON document on stdout and nothing else there"""
    debug: bool = False
    """show the traceback of an error"""


OUTPUT = OutputFlags()

PLAIN = str.maketrans({"↑": "^", "↓": "v", "±": "+-", "…": "~", "≥": ">="})


@dataclass(frozen=True)
class Answer:
    """A command's result, printed once it is complete.

    Attributes:
        document: For ``--json``: an object or a list of plain values.
        text: For people.
        trouble: Raised once the answer is printed, where it is not all that was asked for.
    """

    document: dict[str, Any] | list[Any]
    text: str
    trouble: Exception | None = None


def emit(text: str) -> None:
    """Print on stdout; where its reader has seen enough (``| head``), end quietly as a pipe's writer does.

    Letters that stdout's encoding lacks are written in plain ones.

    Raises:
        SystemExit: 128 + 13, the exit code of SIGPIPE.
        OSError: It cannot be written, with stdout's name; it is a file on a full disk, say.
    """
    try:
        print(_sayable(text, sys.stdout.encoding or "utf-8"), flush=True)
    except BrokenPipeError:
        with contextlib.suppress(
            OSError, ValueError
        ):  # else the interpreter flushes, and complains, at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + 13) from None
    except OSError as error:
        raise OSError(error.errno, error.strerror, "stdout") from None


def _sayable(text: str, encoding: str) -> str:
    """The text in the letters of an encoding: ``^`` and ``v`` for arrows that it does not have."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(PLAIN).encode(encoding, errors="replace").decode(encoding)
    return text
