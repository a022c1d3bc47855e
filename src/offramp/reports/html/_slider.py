"""The slider over the thresholds: what each of its positions gives, as a table and as data of charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any, ClassVar

from offramp.exits.calibration.published import NOBODY
from offramp.reports.budget_groups import BudgetGroup, MeanPoint
from offramp.reports.html._charts import exit_colour
from offramp.reports.html._parts import Cell, Chart, Key, Legend, Table, named
from offramp.reports.html._slider_charts import accuracy_chart, exits_chart
from offramp.text_table import count

__all__ = ["Slider", "SlidingGroup", "slider_parts"]

ACCURACY, TAKEN = "leaving-accuracy", "leaving-exits"  # names of the charts that follow the slider


@dataclass(frozen=True)
class Slider:
    """A slider over the thresholds, and a table of what each of its positions gives.

    Attributes:
        start: The position at which it stands first.
        table: Of that position.
        cells: For each position the texts of the table, behind its first column.
        charts: Name of a chart -> its data for each position.
        ends: What the slider's two ends are.
    """

    template: ClassVar[str] = "slider"
    start: int
    table: Table
    cells: Sequence[Sequence[Sequence[str]]]
    charts: dict[str, list[list[dict[str, Any]]]]
    ends: tuple[str, str] = ("leave early", "leave late")


@dataclass(frozen=True)
class SlidingGroup:
    """A method whose samples leave early.

    Attributes:
        group: Its curves.
        key: Its line in the legend.
        seconds: Mean time of a sample at each position, by the first run; none if it was not measured.
    """

    group: BudgetGroup
    key: Key
    seconds: Sequence[float]

    @cached_property
    def points(self) -> list[MeanPoint]:
        """What each position gives."""
        return self.group.published

    def cells(self, at: int) -> list[str]:
        """The row of the table at a position."""
        point, first = self.points[at], self.group.curves[0].published[at].policy
        return [
            point.top1.text(2),
            count(point.executed.mean),
            f"{self._percent(point):.1f}",
            _duration(self.seconds[at]) if self.seconds else "",
            " · ".join("–" if value in (None, NOBODY) else f"{value:.3f}" for value in first.thresholds),
        ]

    def dot(self, point: MeanPoint) -> dict[str, Any]:
        """A point of the method in the chart of accuracy against operations."""
        operations = count(point.executed.mean)
        return {
            "of": self.key.label, "x": self._percent(point), "y": point.top1.mean, "operations": operations
        }  # fmt: skip

    def shares(self, at: int) -> list[dict[str, Any]]:
        """The bar of the method at a position: percent of the samples that leave at each exit."""
        columns = zip(*(curve.published[at].point.shares for curve in self.group.curves), strict=True)
        return [
            {"of": self.key.label, "exit": exit, "share": 100 * fmean(shares)}
            for exit, shares in enumerate(columns, 1)
        ]

    def _percent(self, point: MeanPoint) -> float:
        """Operations in percent of the network without inner heads."""
        return 100 * point.executed.mean / (self.group.static.executed.mean or 1)


def slider_parts(groups: Sequence[SlidingGroup], start: int) -> list[Any]:
    """The slider, its table and its charts.

    Args:
        groups: The methods, at least one.
        start: The position at which the slider stands first.
    """
    keys = [each.key for each in groups]
    positions = range(len(groups[0].points))
    dots = [[each.dot(each.points[at]) for each in groups] for at in positions]
    shares = [[share for each in groups for share in each.shares(at)] for at in positions]
    cells = [[each.cells(at) for each in groups] for at in positions]
    lines = [each.dot(point) | {"p": p} for each in groups for p, point in enumerate(each.points)]
    alone = [
        each.dot(point) | {"exit": exit} for each in groups for exit, point in enumerate(each.group.exits, 1)
    ]
    exits = len(groups[0].group.exits)
    accuracy = accuracy_chart(lines, alone, dots[start], keys)
    taken = exits_chart([key.label for key in keys], exits, shares[start])
    return [
        *([Legend(keys)] if len(keys) > 1 else []),
        Slider(start, _table(groups, cells[start]), cells, {ACCURACY: dots, TAKEN: shares}),
        Chart(
            "Accuracy against operations",
            [("", accuracy)],
            "Lines: the forty positions of the slider; large dots: where it stands; squares: each exit "
            "alone, for all samples. Up and to the left is better. 100 % of the operations is the network "
            "without inner heads.",
            ACCURACY,
        ),
        Legend([Key(f"exit {k}", exit_colour(k, exits)) for k in range(1, exits + 1)], bars=True),
        Chart(
            "Exits taken",
            [("", taken)],
            "Share of the test samples that leaves at each exit; mean over the seeds.",
            TAKEN,
        ),
    ]


def _table(groups: Sequence[SlidingGroup], cells: Sequence[Sequence[str]]) -> Table:
    """The table at the position where the slider starts."""
    header = ["method", "right %", "operations", "of the\nwhole %", "time of\na sample", "thresholds"]
    rows: list[list[Cell | str]] = [
        [named(each.key), *texts] for each, texts in zip(groups, cells, strict=True)
    ]
    shows = (
        f"Operations of a sample, counted as {groups[0].group.curves[0].convention}, without heads at which "
        "nobody leaves. Thresholds are of the first seed; – where nobody leaves."
    )
    if any(each.seconds for each in groups):
        shows += (
            " The time is of one sample alone, every part of the net timed on the machine that wrote this "
            "page; nets of the same operations have the same times."
        )
    return Table("At these thresholds", header, rows, shows)


def _duration(seconds: float) -> str:
    """A time to three digits."""
    number, unit = (seconds, "s") if seconds >= 1 else (1000 * seconds, "ms")
    places = 0 if number >= 100 else 1 if number >= 10 else 2 if number >= 1 else 3
    return f"{number:.{places}f} {unit}"
