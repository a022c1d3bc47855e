"""A comparison with each row of a published table right below the runs that reproduce it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from offramp.reports._columns import columns_of, has_tasks
from offramp.reports._published import PublishedRows
from offramp.reports._published_tasks import PublishedTasks
from offramp.reports._text import headings
from offramp.reports.comparison import Comparison
from offramp.reports.groups import Group
from offramp.reports.paired import Spread, spread
from offramp.tasks.outputs import decimals
from offramp.text_table import folded

__all__ = ["Beside", "beside_published"]


@dataclass(frozen=True)
class Beside:
    """One row of a published table and what was measured in its place.

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
        spreads = self.ours or {}
        ours = {name: {"mean": s.mean, "std": s.std, "n": s.n} for name, s in spreads.items()}
        return {"label": self.label, "ours": ours or None, "published": dict(self.published)}


def beside_published(comparison: Comparison, labels: Mapping[str, str | None]) -> tuple[list[Beside], str]:
    """The rows of the comparison's published table, each with the runs that stand for it.

    Of outputs with tasks of their own the columns are the metrics that Delta-m is the mean of, and what was
    measured is the mean of the last epochs where the runs have it, as published.

    Args:
        comparison: With a published table.
        labels: Label of a published row -> label of the group of its runs; None where there is none.

    Returns:
        The rows, and the same as a table.
    """
    groups = {group.label: group for group in comparison.groups}
    published = comparison.published
    if has_tasks(comparison.result):
        rows = _of_tasks(groups, comparison.groups[0], published, labels)
        columns = columns_of(comparison.result, "compared")
        names = {f"{c.output} {c.metric}": c.heading for c in columns} | {"delta_m": "all tasks\ndelta-m %↓"}
        first = comparison.groups[0]
        places = {f"{c.output} {c.metric}": decimals(c.metric, first.spread_of(c).mean) for c in columns}
    else:
        rows = _of_exits(groups, comparison, published, labels)
        names = headings(comparison.result)
        places = {}
    return rows, _text(rows, names, places)


def _of_exits(
    groups: Mapping[str, Group], comparison: Comparison, published: Any, labels: Mapping[str, str | None]
) -> list[Beside]:
    names = [*headings(comparison.result)]
    printed = published.rows if isinstance(published, PublishedRows) else {}
    return [
        Beside(
            label,
            groups[ours].scores if ours is not None else None,
            {
                name: value
                for name, value in zip(names, printed.get(label, ()), strict=False)
                if value is not None
            },
        )
        for label, ours in labels.items()
    ]


def _of_tasks(
    groups: Mapping[str, Group], baseline: Group, published: Any, labels: Mapping[str, str | None]
) -> list[Beside]:
    rows = []
    for label, ours in labels.items():
        measured = None
        if ours is not None:
            group, other = (groups[ours].last_epochs or groups[ours]), (baseline.last_epochs or baseline)
            columns = columns_of(group.runs[0].result, "compared")
            measured = {f"{column.output} {column.metric}": group.spread_of(column) for column in columns}
            if group.label != other.label and (losses := group.delta_m(other)):
                measured["delta_m"] = spread(losses)
        printed = {}
        if isinstance(published, PublishedTasks):
            printed = {f"{o} {m}": value for (o, m), value in published.rows.get(label, {}).items()}
            if label in published.delta_m:
                printed["delta_m"] = published.delta_m[label]
        rows.append(Beside(label, measured, printed))
    return rows


def _text(rows: Sequence[Beside], names: Mapping[str, str], places: Mapping[str, int]) -> str:
    """Two lines for each row: what was measured, and below it what was published."""
    lines = []
    for row in rows:
        if row.ours is not None:
            cells = [row.ours[n].text(places.get(n, 2)) if n in row.ours else "" for n in names]
            lines.append([row.label, *cells])
        printed = [f"{row.published[n]:.{places.get(n, 2)}f}" if n in row.published else "" for n in names]
        lines.append([f"{row.label} (published)", *printed])
    return folded(["method", *names.values()], lines)
