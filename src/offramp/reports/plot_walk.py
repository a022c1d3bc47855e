"""The picture of images walking through the exits of a net, each until it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from offramp.exits.policy import Threshold
from offramp.exits.predictions import Prediction, Predictor, Visit
from offramp.reports.canvas import canvas

__all__ = ["plot_walks"]

ROWS = 8  # images; more would be too small to see
CLASSES = 3  # of the highest probability at each exit
LEAVES, GOES_ON = "#56B4E9", "0.8"  # of Okabe & Ito (2008)


def plot_walks(predictor: Predictor, predictions: Sequence[Prediction], path: str | Path) -> Path:
    """Draw an image a row: the image as the net reads it, then what each exit on its way says about it.

    Args:
        predictor: What made the predictions.
        predictions: At least one; the first eight are drawn.
        path: The picture's file; its ending says the format.

    Raises:
        UserError: matplotlib is missing, an ending it does not know, or a place where no file can be
            written.
    """
    shown = predictions[:ROWS]
    walks = [predictor.walk(prediction) for prediction in shown]
    columns = 1 + max(map(len, walks))
    with canvas(path, 1.3 + 1.9 * (columns - 1), 1.9 * len(shown)) as figure:
        axes = figure.subplots(len(shown), columns, squeeze=False)
        for row, prediction, walk in zip(axes, shown, walks, strict=True):
            for each in row:
                each.set_axis_off()
            levels = predictor.reader.read(prediction.file).permute(1, 2, 0).numpy()
            row[0].imshow(levels if levels.shape[2] > 1 else levels[..., 0], cmap="gray", vmin=0, vmax=255)
            row[0].set_title(_short(prediction.file.name), fontsize=8, parse_math=False)
            for place, visit in zip(row[1:], walk, strict=False):
                _draw_visit(place, visit, predictor, prediction)
        figure.supxlabel(
            f"below each exit its confidence ({predictor.policy.confidence}) and its threshold; "
            "blue: the image leaves",
            fontsize=9,
        )
    return Path(path)


def _draw_visit(axes: Any, visit: Visit, predictor: Predictor, prediction: Prediction) -> None:
    """Bars of the classes of highest probability, and whether the image leaves."""
    top = visit.probabilities.topk(min(CLASSES, len(visit.probabilities)))
    colour = LEAVES if visit.leaves else GOES_ON
    places = range(len(top.values))
    axes.set_axis_on()
    axes.barh(places, top.values.tolist(), color=colour, height=0.7)
    for place, (value, label) in enumerate(zip(top.values.tolist(), top.indices.tolist(), strict=True)):
        name = f"{_short(predictor.classes[label])} {value:.2f}"
        axes.text(0.02, place, name, va="center", fontsize=8, parse_math=False)
    axes.set_xlim(0, 1)
    axes.set_ylim(CLASSES - 0.4, -0.6)
    axes.set_xticks([])
    axes.set_yticks([])
    answer = f": {_short(prediction.label)}" if visit.leaves else ""
    axes.set_title(
        f"exit {visit.exit}{answer}",
        fontsize=9,
        fontweight="bold" if visit.leaves else "normal",
        parse_math=False,
    )
    axes.set_xlabel(_compared(visit, predictor.policy.thresholds), fontsize=8)


def _compared(visit: Visit, thresholds: Sequence[Threshold]) -> str:
    """The confidence, and how it stands to the exit's threshold where there is one for all classes."""
    threshold = None if visit.exit > len(thresholds) else thresholds[visit.exit - 1]
    if threshold is None or isinstance(threshold, tuple):
        return f"{visit.confidence:.3f}"
    return f"{visit.confidence:.3f} {'≥' if visit.leaves else '<'} {threshold:.3g}"


def _short(name: str, width: int = 16) -> str:
    name = name.encode(errors="backslashreplace").decode()  # of a name that is no UTF-8
    return name if len(name) <= width else f"{name[: width - 1]}…"
