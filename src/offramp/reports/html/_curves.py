"""The course of the training: loss and metric of every output, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import isfinite, nan
from typing import Any

from offramp.reports.html._charts import exit_colour, keys_of, lines
from offramp.reports.html._parts import Chart, Key, Legend, Note, Section
from offramp.reports.html._runs import LOSS, Runs
from offramp.reports.paired import Spread, spread
from offramp.tasks.outputs import exit_name, heading

__all__ = ["curves_section"]

METRIC = "val_"
Rows = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class _Course:
    """The logs of runs that differ in their seed only.

    Attributes:
        label: What they are called.
        logs: The rows of each ``metrics.csv``.
    """

    label: str
    logs: Sequence[Rows]

    def values(self, column: str) -> list[tuple[int, Spread | None]]:
        """Epoch and value over the seeds, up to the last epoch that all have; None where it is no number.

        A column of which no epoch has a number has no values.
        """
        found = []
        for rows in zip(*self.logs, strict=False):
            values = [row[column] for row in rows if isfinite(row.get(column, nan))]
            found.append((int(rows[0]["epoch"]), spread(values) if values else None))
        return found if any(value for _, value in found) else []


def curves_section(runs: Runs) -> Section:
    """Curves by output: of one method all in a panel, of several a panel for each output."""
    courses = []
    if runs.comparison is not None:
        groups = runs.comparison.groups
        courses += [_Course(group.label, [run.epochs for run in group.runs]) for group in groups]
    courses += [_Course(run.label, [run.epochs]) for run in runs.unfinished]
    columns = dict.fromkeys(chain(*(rows[-1] for course in courses for rows in course.logs if rows)))
    outputs = [name.removeprefix(LOSS) for name in columns if name.startswith(LOSS)]
    lead = "How the outputs learned: the metric on validation samples, and the loss of the training."
    if not outputs:
        lines = [Note("no epoch is logged yet, or metrics.csv is not there")]
        return Section("curves", "Training", lead, lines)
    parts: list[Any] = []
    if len(courses) > 1:
        parts.append(Legend(keys_of([course.label for course in courses])))
    elif len(outputs) > 1:
        parts.append(Legend(_outputs_legend(outputs)))
    metrics = _metrics([*columns], outputs)
    if metrics:
        parts.append(_chart("Validation", courses, {name: metrics.get(name, ("", "")) for name in outputs}))
    else:
        parts.append(Note("the runs held out no validation samples: there is no metric by epoch"))
    parts.append(_chart("Training loss", courses, {name: (f"{LOSS}{name}", "loss") for name in outputs}))
    return Section("curves", "Training", lead, parts)


def _metrics(columns: Sequence[str], outputs: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Output -> its logged metric's column and heading; a column is of the longest name that it ends with."""
    found = {}
    for name in columns:
        owners = [output for output in outputs if name.endswith(f"_{output}")]
        if name.startswith(METRIC) and owners:
            owner = max(owners, key=len)
            found[owner] = (name, heading(name.removeprefix(METRIC).removesuffix(f"_{owner}")))
    return found


def _chart(title: str, courses: Sequence[_Course], of: Mapping[str, tuple[str, str]]) -> Chart:
    """Panels of a quantity; ``of`` has the column and the unit of each output."""
    units = dict.fromkeys(unit for _, unit in of.values() if unit)
    one = len(units) == 1
    title = f"{title}, {next(iter(units))}" if one and next(iter(units)) != "loss" else title
    bands = any(len(course.logs) > 1 for course in courses)
    shows = "Shaded: one standard deviation over the seeds." if bands else ""
    if len(courses) == 1 and one:
        keys = _outputs_legend([*of])
        values = [
            value
            for (column, _), key in zip(of.values(), keys, strict=True)
            for value in _values(courses[0], column, key.label)
        ]
        panel = lines(values, keys, "epoch", None, height=260)
        return Chart(title, [("", panel)], f"{courses[0].label}, a line for each output. {shows}".rstrip())
    keys = keys_of([course.label for course in courses])
    panels = []
    for name, (column, unit) in of.items():
        values = [value for course in courses for value in _values(course, column, course.label)]
        if values:
            unit = "" if one or not unit else f", {unit}"
            panels.append((f"{_named(name)}{unit}", lines(values, keys, "epoch", None)))
    return Chart(title, panels, f"A panel for each output, each with a scale of its own. {shows}".rstrip())


def _values(course: _Course, column: str, label: str) -> list[dict[str, Any]]:
    """The points of a line; one without a value, as of an output that rests, is a gap in it."""
    found: list[dict[str, Any]] = []
    for epoch, value in course.values(column):
        point: dict[str, Any] = {"of": label, "x": epoch, "y": None}
        if value is not None:
            point["y"] = value.mean
            if value.std is not None:
                point |= {"low": value.mean - value.std, "high": value.mean + value.std}
        found.append(point)
    return found


def _outputs_legend(outputs: Sequence[str]) -> list[Key]:
    """Outputs' colours: exits from shallow to deep, others told apart."""
    if all(name.isdecimal() for name in outputs):
        colours = [exit_colour(k, len(outputs)) for k in range(1, len(outputs) + 1)]
        return [Key(_named(name), colour) for name, colour in zip(outputs, colours, strict=True)]
    return keys_of([_named(name) for name in outputs])


def _named(output: str) -> str:
    """An output by its column's name: ``exit 3`` for ``3``."""
    return exit_name(int(output)) if output.isdecimal() else output
