"""Print a line for the person who waits, on stderr, so that stdout stays free for results."""

from __future__ import annotations

import contextlib
import sys

__all__ = ["say"]


def say(line: str) -> None:
    """Print a line to stderr at once; what runs goes on where nobody reads it any more, or a disk is full."""
    if sys.stderr is not None:  # in a program without one, print would take stdout
        with contextlib.suppress(OSError):
            print(line, file=sys.stderr, flush=True)
