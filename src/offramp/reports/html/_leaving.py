"""Leaving early: what each method reaches at forty sets of thresholds, between which a slider moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

from offramp.errors import UserError
from offramp.exits.budget_curve import policy_point
from offramp.exits.calibration.published import NOBODY
from offramp.exits.path_times import PathTimes
from offramp.exits.policy import Policy
from offramp.nets import Net
from offramp.reports.budget import Budget, Measured, budget
from offramp.reports.comparison import Comparison
from offramp.reports.html._charts import CURRENT, dashes_of, exit_colour, keys_of, quantity, scale_of, spec
from offramp.reports.html._parts import Cell, Chart, Key, Legend, Note, Section, Table
from offramp.reports.html._pictures import Gallery, gallery
from offramp.text_table import count

__all__ = ["Leaving", "Slider", "leaving_sections"]

Rows = list[list[dict[str, Any]]]  # by position of the slider
MOST_PICTURED = 6  # methods
PICTURES = (
    "The samples that leave first at each exit, of which it is surest, and those that just about leave."
)


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
    charts: dict[str, Rows]
    ends: tuple[str, str] = ("leave early", "leave late")


def leaving_sections(
    comparison: Comparison, net: Net | None, *, times: bool, tell: Callable[[str], None]
) -> list[Section]:
    """The slider with its curves, and the samples that leave at each exit.

    Args:
        comparison: The runs.
        net: As for :func:`~offramp.reports.budget.budget`.
        times: Measure the time of each way through the net.
        tell: Receives a line before each run.
    """
    lead = (
        "A sample leaves at the first exit that is sure enough of it. The slider moves the thresholds of all "
        "exits together, from few operations to many; they are fitted on validation samples, and what is "
        "shown was measured on test samples."
    )
    seen = Leaving(comparison, times)
    folders = [run.folder for group in comparison.groups for run in group.runs]
    try:
        found = budget(folders, net=net, tell=tell, see=seen)
    except UserError as error:
        return [Section("leaving", "Leaving early", lead, [Note(f"nothing to show: {error}")])]
    sections = [Section("leaving", "Leaving early", lead, _parts(found, seen))]
    return [*sections, Section("pictures", "First and last to leave", PICTURES, seen.galleries)]


class Leaving:
    """Takes from each measured run what the page shows besides its curve."""

    def __init__(self, comparison: Comparison, times: bool) -> None:
        self.groups = {group.runs[0].folder: group for group in comparison.groups}
        self.with_times = times
        self.seconds: dict[str, list[float]] = {}  # label -> of each position
        self.galleries: list[Gallery | Note] = []
        self.start: int | None = None
        self._timed: dict[tuple[Any, ...], PathTimes] = {}

    def __call__(self, measured: Measured) -> None:
        """Time and picture the first run of each method."""
        folder: Path | None = measured.run.folder
        group = None if folder is None else self.groups.get(folder)
        if group is None:
            return
        policies = [fitted.policy for fitted in measured.curve.published]
        if self.start is None:
            self.start = _half(measured)
        if self.with_times:
            times = self._times(tuple(group.costs), measured, policies[0])
            self.seconds[group.label] = [
                policy_point(measured.test, policy, times).executed for policy in policies
            ]
        if len(self.galleries) == MOST_PICTURED:
            self.galleries.append(Note(f"pictures of the first {MOST_PICTURED} methods only"))
        if len(self.galleries) < MOST_PICTURED:
            try:
                self.galleries.append(gallery(group.label, measured, policies[self.start]))
            except UserError as error:
                self.galleries.append(Note(f"{group.label}: no pictures, {error}"))

    def _times(self, costs: tuple[Any, ...], measured: Measured, reading: Policy) -> PathTimes:
        """The times of a net; those of one that costs the same, where one was timed."""
        if costs not in self._timed:
            net: Any = measured.run.net
            self._timed[costs] = PathTimes(net, reading)
        return self._timed[costs]


def _half(measured: Measured) -> int:
    """The position whose operations are nearest to half of the whole network's."""
    curve = measured.curve
    distances = [abs(fitted.point.executed - curve.static.executed / 2) for fitted in curve.published]
    return distances.index(min(distances))


def _parts(found: Budget, seen: Leaving) -> list[Any]:
    labels = [each.label for each in found.groups]
    keys = keys_of(labels)
    exits = len(found.groups[0].curves[0].exits)
    start = seen.start or 0
    positions = range(len(found.groups[0].published))
    cells = [[_cells(each, seen, at) for each in found.groups] for at in positions]
    points = [[_point(each, at) for each in found.groups] for at in positions]
    shares = [[share for each in found.groups for share in _shares(each, at)] for at in positions]
    header = [
        "method",
        "right %",
        "operations",
        "of the\nwhole %",
        "time of\na sample",
        "thresholds of the exits",
    ]
    rows: list[list[Cell | str]] = [
        [Cell(key.label, "", key.colour), *texts] for key, texts in zip(keys, cells[start], strict=True)
    ]
    table = Table("At these thresholds", header, rows, _shows_table(found, seen))
    charts = {"leaving-curve": points, "leaving-shares": shares}
    shows = (
        "Lines: the forty positions of the slider; large dots: where it stands; squares: each exit "
        "alone, for all samples. Up and to the left is better. 100 % of the operations is the network "
        "without inner heads."
    )
    curve = Chart(
        "Accuracy against operations", [("", _curve(found, keys, points[start]))], shows, "leaving-curve"
    )
    shows = "Share of the test samples that leaves at each exit; mean over the seeds."
    taken = Chart("Exits taken", [("", _taken(labels, exits, shares[start]))], shows, "leaving-shares")
    legend = Legend([Key(f"exit {k}", exit_colour(k, exits)) for k in range(1, exits + 1)])
    own = [Legend(keys)] if len(keys) > 1 else []
    notes = [Note(note) for note in found.notes]
    return [*own, Slider(start, table, cells, charts), curve, legend, taken, *notes]


def _cells(each: Any, seen: Leaving, at: int) -> list[str]:
    """A method's row at a position."""
    point, static = each.published[at], each.static.executed.mean
    first = each.curves[0].published[at].policy.thresholds
    seconds = seen.seconds.get(each.label)
    return [
        point.top1.text(2),
        count(point.executed.mean),
        f"{100 * point.executed.mean / static:.1f}" if static else "",
        "" if seconds is None else _duration(seconds[at]),
        " · ".join("–" if threshold in (None, NOBODY) else f"{threshold:.3f}" for threshold in first),
    ]


def _duration(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _shows_table(found: Budget, seen: Leaving) -> str:
    timed = (
        " The time is of one sample alone, every part of the net timed on the machine that wrote this page;"
        " nets of the same operations have the same times."
        if seen.seconds
        else ""
    )
    return (
        f"Operations of a sample, counted as {found.groups[0].curves[0].convention}, without heads at which "
        f"nobody leaves. Thresholds are of the first seed; – where nobody leaves.{timed}"
    )


def _point(each: Any, at: int) -> dict[str, Any]:
    return _of(each, each.published[at])


def _of(each: Any, point: Any) -> dict[str, Any]:
    static = each.static.executed.mean or 1
    return {
        "of": each.label,
        "x": 100 * point.executed.mean / static,
        "y": point.top1.mean,
        "operations": count(point.executed.mean),
    }


def _shares(each: Any, at: int) -> list[dict[str, Any]]:
    columns = zip(*(curve.published[at].point.shares for curve in each.curves), strict=True)
    return [
        {"of": each.label, "exit": k, "share": 100 * fmean(values)} for k, values in enumerate(columns, 1)
    ]


def _curve(found: Budget, keys: Sequence[Key], now: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The curves, each exit alone, and where the slider stands."""
    line = [_of(each, point) | {"p": p} for each in found.groups for p, point in enumerate(each.published)]
    alone = [_of(each, point) | {"exit": k} for each in found.groups for k, point in enumerate(each.exits, 1)]
    tooltip = [
        {"field": "of", "title": " "},
        {"field": "y", "title": "right %", "format": ".2f"},
        {"field": "x", "title": "of the whole %", "format": ".1f"},
        {"field": "operations"},
    ]
    layer = [
        {"mark": {"type": "line"},
         "encoding": {"strokeDash": dashes_of(keys), "order": {"field": "p", "type": "quantitative"}}},
        {"data": {"values": alone},
         "mark": {"type": "point", "shape": "square", "size": 40, "filled": False, "strokeWidth": 1.5},
         "encoding": {"tooltip": [{"field": "exit", "title": "all leave at exit"}, *tooltip]}},
        {"data": {"name": CURRENT, "values": [*now]},
         "mark": {"type": "point", "filled": True, "size": 170, "opacity": 1, "stroke": "var(--page)",
                  "strokeWidth": 2},
         "encoding": {"tooltip": tooltip}},
    ]  # fmt: skip
    shared = {
        "x": quantity("x", "operations, % of the whole network"),
        "y": quantity("y", "right, % of the test samples"),
        "color": scale_of(keys),
    }
    return spec(line, 320, layer=layer, encoding=shared)


def _taken(labels: Sequence[str], exits: int, shares: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A bar for each method, of the shares of its exits."""
    numbers = [*range(1, exits + 1)]
    colour = {
        "field": "exit", "type": "ordinal", "legend": None,
        "scale": {"domain": numbers, "range": [exit_colour(k, exits) for k in numbers]},
    }  # fmt: skip
    encoding = {
        "y": {"field": "of", "type": "nominal", "title": None, "sort": [*labels],
              "axis": {"labelLimit": 110, "domain": False} if len(labels) > 1 else None},
        "x": {"field": "share", "type": "quantitative", "title": "% of the samples",
              "scale": {"domain": [0, 100]}, "stack": "zero"},
        "order": {"field": "exit", "type": "ordinal"},
        "color": colour,
        "tooltip": [{"field": "of", "title": " "}, {"field": "exit"},
                    {"field": "share", "title": "%", "format": ".1f"}],
    }  # fmt: skip
    bars = spec(
        [],
        30 * len(labels) + 4,
        mark={"type": "bar", "height": {"band": 0.75}, "stroke": "var(--page)"},
        encoding=encoding,
    )
    return bars | {"data": {"name": CURRENT, "values": [*shares]}}
