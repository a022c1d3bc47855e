"""A figure in the project's style that ends as a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from offramp.errors import UserError, shown
from offramp.output_paths import checked_path

__all__ = ["canvas", "check_picture"]

STYLE: Any = {
    "font.size": 11,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may hold dollars
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def check_picture(path: str | Path) -> Path:
    """Check that a picture can be drawn there, before what it shows is computed.

    Raises:
        UserError: matplotlib is missing, it does not know the ending, or the folder is not there.
    """
    path = checked_path(path)
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    except ModuleNotFoundError as error:
        raise UserError("a picture needs matplotlib: pip install 'offramp[cli]'") from error
    if path.suffix[1:].lower() not in FigureCanvasAgg.get_supported_filetypes():
        raise UserError(f"cannot draw {shown(path)}: end the name in .png, .svg or .pdf")
    if not path.parent.is_dir():
        raise UserError(f"cannot draw {shown(path)}: there is no folder {shown(path.parent)}; make it first")
    return path


@contextmanager
def canvas(path: str | Path, width: float, height: float, *, dpi: int = 150) -> Iterator[Any]:
    """Give a matplotlib figure to draw on, and write it in the end.

    Args:
        path: The picture's file; its ending says the format, e.g. ``.png``, ``.svg``, ``.pdf``.
        width: In inches.
        height: In inches.
        dpi: Pixels per inch, of formats that have them.

    Raises:
        UserError: matplotlib is missing, an ending it does not know, or a place where no file can be
            written.
    """
    path = check_picture(path)
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        try:
            figure.savefig(path, dpi=dpi)
        except OSError as error:
            raise UserError(f"cannot draw {shown(path)}: {error.strerror}; give another name") from error
