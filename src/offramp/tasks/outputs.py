"""Names of outputs and metrics in tables and log files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite

from offramp.text_table import four_digits

__all__ = [
    "ARROWS",
    "are_exits",
    "column",
    "decimals",
    "exit_name",
    "heading",
    "names_in_words",
    "noun_of",
    "plain",
]

ARROWS = {"higher": " ↑", "lower": " ↓", "": ""}  # behind a metric's heading, by which way it is better

_EXIT = "exit "
_HEADINGS = {
    "top1": "top-1 %",
    "top5": "top-5 %",
    "iou": "IoU %",
    "miou": "mIoU %",
    "pixacc": "pixels %",
    "abs_err": "abs err",
    "rel_err": "rel err",
    "mean_angle": "mean deg",
    "median_angle": "median deg",
    "within_11.25": "<11.25 %",
    "within_22.5": "<22.5 %",
    "within_30": "<30 %",
}


def exit_name(number: int) -> str:
    """The name of the k-th exit (from 1): ``exit 3``."""
    return f"{_EXIT}{number}"


def column(output: str) -> str:
    """The part of a column's name that stands for an output: ``3`` for ``exit 3``, else its name."""
    return output.removeprefix(_EXIT) if _is_exit(output) else output


def noun_of(outputs: Iterable[str]) -> str:
    """What outputs are called: ``exit``, or ``output`` where they have names of their own."""
    return "exit" if are_exits(outputs) else "output"


def names_in_words(outputs: Sequence[str]) -> str:
    """A list of outputs for a sentence: ``exit 1``, ``exits 1, 3``, ``depth, normals``."""
    if len(outputs) > 1 and are_exits(outputs):
        return f"exits {', '.join(map(column, outputs))}"
    return ", ".join(outputs)


def are_exits(outputs: Iterable[str]) -> bool:
    """Whether all outputs are exits of one network."""
    return all(_is_exit(name) for name in outputs)


def _is_exit(output: str) -> bool:
    return output.startswith(_EXIT) and output.removeprefix(_EXIT).isdecimal()


def heading(metric: str) -> str:
    """A metric with its unit, as tables call it: ``top-1 %``; one that is not known here, as it is."""
    words = _HEADINGS.get(plain(metric), plain(metric))
    return f"{metric.removesuffix(plain(metric)).rstrip('_')} {words}".lstrip()


def plain(metric: str) -> str:
    """A metric without what says how it is averaged: ``abs_err`` for ``image_abs_err``, ``pixel_abs_err``."""
    return metric.removeprefix("image_").removeprefix("pixel_")


def decimals(metric: str, value: float) -> int:
    """How many decimals show a metric of about this value: two of percents and degrees, else four digits."""
    return 2 if heading(metric).endswith((" %", " deg")) or not isfinite(value) else four_digits(value)
