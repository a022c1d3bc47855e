"""A figure in the project's style that ends as a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from offramp.errors import UserError
from offramp.reports.plot import STYLE

__all__ = ["canvas"]


@contextmanager
def canvas(path: Path, width: float, height: float) -> Iterator[Any]:
    """Give a matplotlib figure to draw on, and write it in the end.

    Args:
        path: The picture's file; its ending says the format.
        width: In inches.
        height: In inches.

    Raises:
        UserError: matplotlib is missing, or the file cannot be written.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise UserError("a picture needs matplotlib: pip install 'offramp[cli]'") from error
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        try:
            figure.savefig(path, dpi=150)
        except OSError as error:
            raise UserError(f"cannot draw {str(path)!r}: {error.strerror}; give another folder") from error
