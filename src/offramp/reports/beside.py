"""A comparison with each row of a published table right below the runs that reproduce it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from offramp.reports._published import PublishedRows
from offramp.reports._published_tasks import PublishedTasks
from offramp.reports._task_text import DELTA_M
from offramp.reports._text import headings
from offramp.reports.columns import columns_of, has_tasks
from offramp.reports.comparison import Comparison
from offramp.reports.groups import Group
from offramp.reports.paired import Spread, spread
from offramp.runs.result import Result
from offramp.tasks.outputs import decimals
from offramp.text_table import folded

__all__ = ["Beside", "beside_published"]


@dataclass(frozen=True)
class Beside:
    """A row of a published table and what was measured in its place.

    Attributes:
        label: What the table calls it.
        ours: Column -> mean and spread over the seeds; None where nothing was measured.
        published: Column -> the printed value; a column that is not printed is left out.
    """

    label: str
    ours: Mapping[str, Spread] | None
    published: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The row as plain values."""
        ours = None if self.ours is None else {name: asdict(each) for name, each in self.ours.items()}
        return {"label": self.label, "ours": ours, "published": dict(self.published)}


def beside_published(comparison: Comparison, labels: Mapping[str, str | None]) -> tuple[list[Beside], str]:
    """The rows of the comparison's published table, each with the runs that stand for it.

    Of outputs with tasks of their own the columns are the metrics that Delta-m is the mean of, and what was
    measured is the mean of the last epochs where the runs have it, as in the published table.

    Args:
        comparison: With a published table.
        labels: Label of a published row -> label of the group of its runs; None where there is none.

    Returns:
        The rows, and the same as a table.
    """
    groups = {group.label: group for group in comparison.groups}
    printed = _printed(comparison)
    rows = [
        Beside(
            label,
            None if ours is None else _measured(groups[ours], comparison.groups[0]),
            printed.get(label, {}),
        )
        for label, ours in labels.items()
    ]
    return rows, _text(rows, comparison.result)


def _measured(group: Group, baseline: Group) -> Mapping[str, Spread]:
    """The columns of a group; Delta-m is relative to the baseline, which has none itself."""
    if not has_tasks(group.runs[0].result):
        return group.scores
    own, other = (each.last_epochs or each for each in (group, baseline))
    columns = columns_of(own.runs[0].result, "compared")
    measured = {f"{column.output} {column.metric}": own.spread_of(column) for column in columns}
    losses = [] if group is baseline else own.delta_m(other)
    return measured | ({"delta_m": spread(losses)} if losses else {})


def _printed(comparison: Comparison) -> dict[str, dict[str, float]]:
    """Label of a published row -> column -> value, by the names of the measured columns."""
    published = comparison.published
    if isinstance(published, PublishedTasks):
        return {
            label: {f"{output} {metric}": value for (output, metric), value in values.items()}
            | ({"delta_m": published.delta_m[label]} if label in published.delta_m else {})
            for label, values in published.rows.items()
        }
    if not isinstance(published, PublishedRows):
        return {}
    names = [*headings(comparison.result)]
    return {
        label: {name: value for name, value in zip(names, values, strict=True) if value is not None}
        for label, values in published.rows.items()
    }


def _text(rows: Sequence[Beside], result: Result) -> str:
    """Two lines for each row: what was measured, and below it what was published."""
    names, places = headings(result), {}
    if has_tasks(result):
        columns = {f"{column.output} {column.metric}": column for column in columns_of(result, "compared")}
        names = {name: column.heading for name, column in columns.items()} | {"delta_m": DELTA_M}
        places = {name: _places(name, column.metric, rows) for name, column in columns.items()}
    lines = []
    for row in rows:
        if row.ours is not None:
            ours = [row.ours[name].text(places.get(name, 2)) if name in row.ours else "" for name in names]
            lines.append([row.label, *ours])
        printed = [
            f"{row.published[name]:.{places.get(name, 2)}f}" if name in row.published else ""
            for name in names
        ]
        lines.append([f"{row.label} (published)", *printed])
    return folded(["method", *names.values()], lines)


def _places(name: str, metric: str, rows: Sequence[Beside]) -> int:
    """How many decimals a column has, so that its smallest values have their digits, too."""
    values = [row.published[name] for row in rows if name in row.published]
    values += [row.ours[name].mean for row in rows if row.ours is not None]
    return max(decimals(metric, value) for value in values)
