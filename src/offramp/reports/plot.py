"""The picture of a comparison: accuracy against cost, exit by exit."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

from offramp.errors import UserError
from offramp.reports.groups import Comparison

__all__ = ["plot"]

# Okabe & Ito (2008), told apart by colour-blind readers; yellow is left out, too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "osD^vPX"


def plot(comparison: Comparison, path: str | Path) -> Path:
    """Draw top-1 against FLOPs, one line per method, error bars of one standard deviation over the seeds.

    Args:
        comparison: From :func:`offramp.reports.compare`.
        path: The picture's file; its ending says the format, e.g. ``.png``, ``.svg``, ``.pdf``.

    Raises:
        UserError: matplotlib is missing, an ending it does not know, or a place where no file can be
            written.
    """
    path = Path(path)
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise UserError("a picture needs matplotlib: pip install 'offramp[cli]'") from error

    formats = FigureCanvasAgg.get_supported_filetypes()
    if path.suffix[1:].lower() not in formats:
        raise UserError(f"cannot draw {str(path)!r}: end the name in .png, .svg or .pdf")
    if not path.parent.is_dir():
        raise UserError(f"cannot draw {str(path)!r}: there is no folder {str(path.parent)!r}; make it first")

    style: Any = {
        "font.size": 11,
        "svg.fonttype": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        axes = figure.add_subplot()
        _draw(axes, comparison)
        try:
            figure.savefig(path, dpi=180)
        except OSError as error:
            raise UserError(f"cannot draw {str(path)!r}: {error.strerror}; give another name") from error
    return path


def _draw(axes: Any, comparison: Comparison) -> None:
    largest = max(flops for group in comparison.groups for _, flops in group.costs)
    scale, unit = (1e9, "G") if largest >= 1e10 else (1e6, "M") if largest >= 1e6 else (1e3, "k")
    ends = []
    for number, group in enumerate(comparison.groups):
        exits = group.scores[: len(group.costs)]
        x = [flops / scale for _, flops in group.costs]
        y = [score.mean for score in exits]
        bars = [score.std or 0.0 for score in exits] if len(group.runs) > 1 else None
        colour = COLOURS[number % len(COLOURS)]
        axes.errorbar(
            x, y, bars, color=colour, marker=MARKERS[number % len(MARKERS)], markersize=6, linewidth=1.8,
            capsize=3, elinewidth=1.2, markeredgecolor="white", markeredgewidth=0.8,
        )  # fmt: skip
        ends.append((y[-1], x[-1], group.label, colour))
    axes.set_xlabel(f"FLOPs per image ({unit})")
    axes.set_ylabel("top-1 accuracy (%)")
    axes.set_title(comparison.title, loc="left", fontsize=12)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.03, y=0.08)
    if any(len(group.runs) > 1 for group in comparison.groups):
        note = "bars: one standard deviation over the seeds"
        axes.text(0.99, 0.03, note, transform=axes.transAxes, ha="right", fontsize=9, color="0.4")
    _label(axes, sorted(ends))


def _label(axes: Any, ends: list[tuple[float, float, str, str]]) -> None:
    """Write each line's name to the right of its last point; names that would overlap move apart."""
    low, high = axes.get_ylim()
    heights = _apart([y for y, *_ in ends], 0.055 * (high - low))
    for (y, x, label, colour), height in zip(ends, heights, strict=True):
        axes.annotate(
            label,
            (x, y),
            xytext=(1.03, height),
            textcoords=("axes fraction", "data"),
            color=colour,
            va="center",
            fontweight="bold",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "alpha": 0.5,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 6,
            },
        )


def _apart(heights: list[float], gap: float) -> list[float]:
    """The heights nearest to the given rising ones, in least squares, that are ``gap`` apart (pooled)."""
    pools: list[list[float]] = []
    for number, height in enumerate(heights):
        pools.append([height - number * gap])
        while len(pools) > 1 and fmean(pools[-2]) > fmean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    level = [fmean(pool) for pool in pools for _ in pool]
    return [value + number * gap for number, value in enumerate(level)]
