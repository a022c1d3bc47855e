"""The rows of a published table under the columns of a comparison, always labelled as published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

from offramp.papers.catalogue import published_table
from offramp.papers.published import Table

__all__ = ["PublishedRows", "published_rows"]


@dataclass(frozen=True)
class PublishedRows:
    """Rows that a paper printed, column for column as a comparison has them.

    Attributes:
        name: Name of the table in the library, e.g. ``dfs-table2``.
        source: The paper and the number of the table in it.
        setting: The network and the data.
        rows: Method -> top-1 in percent of every exit, then of the average and the ensemble; None where the
            paper prints none, or where it is of something else.
        notes: What does not fit, and what is inferred; one line each.
    """

    name: str
    source: str
    setting: str
    rows: dict[str, tuple[float | None, ...]]
    notes: tuple[str, ...]

    def title(self) -> str:
        """Source and setting of the rows, in one line."""
        return f"published: {self.source}; {self.setting}, under recipes of its own, not measured here"

    def cells(self) -> list[list[str]]:
        """A row of text for every method, its label first."""
        return [
            [f"{method} (published)", *("" if value is None else f"{value:.2f}" for value in values)]
            for method, values in self.rows.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """The rows and their source as plain values; None stands for what is not there."""
        return {
            "table": self.name,
            "source": self.source,
            "setting": self.setting,
            "rows": [
                {
                    "label": f"{method} (published)",
                    "exits": [{"top1": value} for value in values[:-2]],
                    "average_top1": values[-2],
                    "ensemble_top1": values[-1],
                }
                for method, values in self.rows.items()
            ],
            "notes": list(self.notes),
        }


def published_rows(name: str, columns: Sequence[str], others: str = "") -> PublishedRows:
    """The rows of a published table, matched by what their columns are.

    Args:
        name: A key of :data:`offramp.papers.catalogue.TABLES`.
        columns: Those of the comparison: the exits from 1, ``average``, ``ensemble``; none where the runs are
            not of exits that classify.
        others: The outputs that the runs have then, in words.

    Raises:
        UserError: No table has this name.
    """
    table = published_table(name)
    if not isinstance(table, Table):
        note = (
            f"{name} has no accuracies of exits but {', '.join(table.columns)}, so none of its rows is shown"
        )
        return PublishedRows(name, table.source, f"tasks of {table.data}", {}, (note,))
    setting = f"{table.net} on {table.data}"
    if not columns:
        note = (
            f"{name} is of exits that classify, and these runs are of a net with the outputs {others}, "
            "so none of its rows is shown"
        )
        return PublishedRows(name, table.source, setting, {}, (note,))
    exits = [column for column in table.columns if column.isdigit()]
    shown = set(table.columns) & set(columns)
    notes = [f"{method} (published): {remark}" for method, remark in table.inferred.items()]
    if exits != (measured := [column for column in columns if column.isdigit()]):
        shown -= set(exits)
        rest = f"only its {' and '.join(sorted(shown))} is shown" if shown else "none of its rows is shown"
        notes.insert(0, f"{name} has {len(exits)} exits and these runs have {len(measured)}, so {rest}")
    rows = {}
    for method, values in table.top1.items() if shown else ():
        printed = dict(zip(table.columns, values, strict=True))
        cells = [printed[column] if column in shown else None for column in columns]
        rows[method] = tuple(None if value is None or isnan(value) else value for value in cells)
    return PublishedRows(name, table.source, setting, rows, tuple(notes))
