"""Print a line for the person who waits, on stderr, so that stdout stays free for results."""

from __future__ import annotations

import sys

__all__ = ["say"]


def say(line: str) -> None:
    """Print a line to stderr at once."""
    print(line, file=sys.stderr, flush=True)
