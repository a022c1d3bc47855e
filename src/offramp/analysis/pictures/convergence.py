"""Fig 10 and 11 of DR-MGF: metric or loss of the training, epoch by epoch and pass by pass."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from offramp.analysis.convergence import Curves
from offramp.analysis.pictures._lines import stroke
from offramp.reports.canvas import canvas
from offramp.reports.plot_lines import wrapped
from offramp.tasks.outputs import heading

__all__ = ["draw_convergence"]


def draw_convergence(path: Path, courses: Sequence[Curves]) -> None:
    """Draw the mean of the exits above and the last exit below, over epochs and over passes.

    Of several tasks it is the training loss of each. Where all curves took one pass an epoch, both axes are
    one. Without validation images it is the training loss that is drawn.

    Args:
        path: The picture's file.
        courses: One per group, the baseline first.
    """
    panels_of = _panels(courses)
    one_axis = all(course.epochs == course.passes for course in courses)
    axes_of = {"epochs": "epochs", "passes": "passes (epochs of joint training)"}
    if one_axis:
        axes_of = {"epochs": "epochs; every method here takes one pass an epoch"}
    with canvas(path, 9 if one_axis else 13.5, 1.4 + 3.1 * len(panels_of)) as figure:
        panels = figure.subplots(len(panels_of), len(axes_of), squeeze=False, sharex="col", sharey="row")
        for row, (key, title, unit) in zip(panels, panels_of, strict=True):
            for axes, x_name in zip(row, axes_of, strict=True):
                for number, course in enumerate(courses):
                    _draw(axes, getattr(course, x_name), course, key, number)
                axes.grid(axis="y", color="0.9", linewidth=0.8)
                axes.set_axisbelow(True)
            row[0].set_title(title, loc="left", fontsize=12)
            row[0].set_ylabel(unit)
        for axes, name in zip(panels[-1], axes_of.values(), strict=True):
            axes.set_xlabel(name)
            axes.set_xlim(left=0)
            axes.locator_params(axis="x", integer=True)
        several = any(series[0].std is not None for course in courses for series in course.values.values())
        note = "bands: one standard deviation\nover the seeds" if several else None
        figure.legend(
            *panels[0][0].get_legend_handles_labels(), loc="outside right upper", frameon=False,
            fontsize=10, title=note, title_fontsize=9,
        )  # fmt: skip


def _panels(courses: Sequence[Curves]) -> list[tuple[str, str, str]]:
    """For each panel its key among the curves' values, its title and the words of its axis."""
    if courses[0].tasks:
        return [(f"train_loss_{name}", name, _in_words("train_loss")) for name in courses[0].tasks]
    quantity = _quantity(courses)
    titles = {"mean": "mean of the exits", "last": "last exit"}
    return [(f"{quantity}_{key}", title, _in_words(quantity)) for key, title in titles.items()]


def _quantity(courses: Sequence[Curves]) -> str:
    """The validation metric if all curves have one, else the loss: ``val_top1``, ``train_loss``."""
    common = set.intersection(*({name.rpartition("_")[0] for name in course.values} for course in courses))
    return next(iter(sorted(common - {"train_loss"})), "train_loss")


def _in_words(quantity: str) -> str:
    """``validation top-1 %`` for ``val_top1``."""
    if quantity == "train_loss":
        return "training loss"
    return f"validation {heading(quantity.removeprefix('val_'))}"


def _draw(axes: Any, x: Sequence[float], course: Curves, quantity: str, number: int) -> None:
    series = course.values.get(quantity, ())
    style = stroke(number)
    if len(series) > 40:
        style["marker"] = ""
    mean = [point.mean for point in series]
    axes.plot(x[: len(series)], mean, label=wrapped(course.label), **style)
    if series and series[0].std is not None:
        low, high = ([p.mean + sign * (p.std or 0) for p in series] for sign in (-1, 1))
        axes.fill_between(x[: len(series)], low, high, color=style["color"], alpha=0.15, linewidth=0)
