"""What is wrong, in one line."""

from __future__ import annotations

__all__ = ["BundleError", "InputError", "StreamClosed", "one_line", "shown"]

LONGEST = 2000  # characters of a line


class BundleError(ValueError):
    """A folder that is no whole bundle: one line that names the file and what is wrong with it."""

    def __init__(self, line: str) -> None:
        super().__init__(one_line(line))


class InputError(ValueError):
    """An input or an option that the model cannot use: one line that says why."""

    def __init__(self, line: str) -> None:
        super().__init__(one_line(line))


class StreamClosed(RuntimeError):
    """A stream that takes no more samples."""


def one_line(text: str, limit: int = LONGEST) -> str:
    """A text in one line of at most so many characters; what no terminal shows is escaped."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split()))
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def shown(value: object) -> str:
    """A value as a message shows it: its ``repr``, shortened."""
    try:
        return one_line(repr(value), 100)
    except Exception:  # of a number with too many digits, or of the value's own
        return f"<{type(value).__name__}>"
