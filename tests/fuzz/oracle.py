"""What any input must come to: a result, or one line that says what is wrong; in finite time and memory.

``FUZZ=50`` in the environment multiplies the numbers of examples, and draws others each time.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings

from offramp import UserError
from offramp.cli import main

SECONDS = 30  # a hundred times what an example takes; one that comes near it does not end
MEMORY = 4 << 30  # bytes beside what the process has already
LONGEST = 2100  # characters of a line, with the name of the command
TIMES = int(os.environ.get("FUZZ", "1"))


def examples(count: int) -> settings:
    """So many examples of a test, the same ones each time unless ``FUZZ`` asks for more."""
    return settings(
        max_examples=count * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


class DoesNotEnd(BaseException):
    """No error of the library's may be mistaken for it."""


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """The body ends in time, and takes no more than its share of memory."""

    def expired(signum: int, frame: object) -> None:
        raise DoesNotEnd(f"not done after {SECONDS} s")

    handler = signal.signal(signal.SIGALRM, expired)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    if (statm := Path("/proc/self/statm")).exists():
        size = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, limits[1]))
    left = signal.setitimer(signal.ITIMER_REAL, SECONDS)  # of pytest-timeout's
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *left)


def works(action: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """What a call returns, or None where it is refused in one line.

    Raises:
        AssertionError: The refusal is no line, or too long a one.
        BaseException: Anything else that the call raises.
    """
    with bounded(), contextlib.redirect_stderr(io.StringIO()):
        try:
            found = action(*arguments, **keywords)
        except UserError as error:
            check_line(str(error))
            return None
    return True if found is None else found


def command(*words: str, notes: bool = False) -> str | None:
    """What a command line prints, or None where it is refused in one line.

    Args:
        words: What stands after ``offramp``.
        notes: Whether lines that tell what goes on may stand above the one of the refusal.

    Raises:
        AssertionError: Another exit code than 0 and 2, or no line, or more than one.
    """
    out, err = io.StringIO(), io.StringIO()
    with bounded(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(words))
    told = err.getvalue()
    assert code in (0, 2), told
    assert "Traceback" not in told and not re.search(r"\.py:\d+: \w*Warning", told), told
    if code == 0:
        return out.getvalue()
    *before, line = told.removesuffix("\n").split("\n")
    assert line.startswith("offramp") and not out.getvalue(), told
    assert notes or not before, told
    check_line(line)
    return None


def check_line(line: str) -> None:
    """A refusal is one line of printable text, and no longer than a screen."""
    assert line.strip() and len(line) <= LONGEST, f"{len(line)} characters: {line[:300]!r}"
    assert "\n" not in line and "internal error" not in line and "out of memory" not in line, line
