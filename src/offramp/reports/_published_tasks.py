"""The rows of a published table of several tasks, always labelled as published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from offramp.papers.published import TaskTable
from offramp.reports.columns import Column
from offramp.runs.result import Result

__all__ = ["PublishedTasks", "published_tasks"]


@dataclass(frozen=True)
class PublishedTasks:
    """Rows that a paper printed, under the metrics of runs that have these tasks.

    Attributes:
        name: Name of the table in the library, e.g. ``dr-mgf-table6``.
        source: The paper and the number of the table in it.
        setting: The data.
        rows: Label as printed -> (output, metric) -> value.
        delta_m: Label as printed -> mean relative loss in percent to the table's own baseline.
        notes: What does not fit, and what else is known; one line each.
    """

    name: str
    source: str
    setting: str
    rows: Mapping[str, Mapping[tuple[str, str], float]]
    delta_m: Mapping[str, float]
    notes: tuple[str, ...]

    def title(self) -> str:
        """Source and setting of the rows, in one line."""
        return f"published: {self.source}; {self.setting}, under recipes of its own, not measured here"

    def cells(self, columns: Sequence[Column], decimals: Mapping[Column, int]) -> list[list[str]]:
        """A row of text for every method: its label, the columns, Delta-m."""

        def cell(values: Mapping[tuple[str, str], float], column: Column) -> str:
            value = values.get((column.output, column.metric))
            return "" if value is None else f"{value:.{decimals[column]}f}"

        return [
            [
                f"{label} (published)",
                *(cell(values, column) for column in columns),
                f"{self.delta_m[label]:.2f}" if label in self.delta_m else "",
            ]
            for label, values in self.rows.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """The rows and their source as plain values."""
        rows = []
        for label, values in self.rows.items():
            outputs: dict[str, dict[str, float]] = {}
            for (output, metric), value in values.items():
                outputs.setdefault(output, {})[metric] = value
            row = {"label": f"{label} (published)", "outputs": outputs, "delta_m": self.delta_m.get(label)}
            rows.append(row)
        return {
            "table": self.name,
            "source": self.source,
            "setting": self.setting,
            "rows": rows,
            "notes": list(self.notes),
        }


def published_tasks(name: str, table: TaskTable, result: Result) -> PublishedTasks:
    """The rows of a published table of tasks, under those metrics of a result that one output alone has.

    Args:
        name: Its name in the library.
        table: The table.
        result: Of the runs.
    """
    places: dict[str, list[str]] = {metric: [] for metric in table.metrics}
    for output, found in result.outputs.items():
        for metric in places.keys() & found.metrics.keys():
            places[metric].append(output)
    known = {metric: outputs[0] for metric, outputs in places.items() if len(outputs) == 1}
    if not known:
        columns = ", ".join(table.columns)
        note = f"{name} has {columns}, and these runs have none of them, so none of its rows is shown"
        return PublishedTasks(name, table.source, f"tasks of {table.data}", {}, {}, (note,))
    rows = {
        label: {
            (known[metric], metric): value
            for metric, value in zip(table.metrics, values, strict=True)
            if metric in known
        }
        for label, values in table.rows.items()
    }
    notes = (
        f"delta-m of the published rows is relative to {table.baseline} (published), over "
        f"{len(table.metrics)} metrics",
        *([f"{name}: {table.remark}"] if table.remark else []),
    )
    return PublishedTasks(name, table.source, f"tasks of {table.data}", rows, table.delta_m, notes)
