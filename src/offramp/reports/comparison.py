"""Runs of one net on one data set side by side; those of a method that differ in their seed are a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from offramp.papers.catalogue import published_table
from offramp.reports._document import comparison_document
from offramp.reports._grouping import grouped
from offramp.reports._notes import notes
from offramp.reports._published import PublishedRows, published_rows
from offramp.reports._text import comparison_text, headings
from offramp.reports.groups import Group
from offramp.runs.result import Result
from offramp.tasks.outputs import heading

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """Groups of runs of one net on one data set; the first group is the baseline.

    Attributes:
        groups: The baseline, then the others in the order in which their runs were given.
        notes: Remarks to read beside the numbers.
        published: The rows of a published table to show beside the measured ones, if asked for.
    """

    groups: tuple[Group, ...]
    notes: tuple[str, ...]
    published: PublishedRows | None = None

    @property
    def title(self) -> str:
        """The net and the data."""
        return f"{self.groups[0].runs[0].net} on {self.groups[0].runs[0].data}"

    @property
    def result(self) -> Result:
        """One of the baseline's results: the outputs, their metrics and directions are those of all runs."""
        return self.groups[0].runs[0].result

    @property
    def columns(self) -> list[str]:
        """Headings of the scores: exits from 1, average, ensemble; or the outputs with their metrics."""
        return [*headings(self.result).values()]

    def table(self) -> str:
        """Scores, paired differences to the first group, and what the training cost."""
        return comparison_text(self.title, self.groups, self.notes, self.published)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain values: the runs' results, the groups' spreads, the paired differences."""
        return comparison_document(self.groups, self.notes, self.published)


def compare(
    folders: Sequence[str | Path], *, pick_lr: bool = False, published: str | None = None
) -> Comparison:
    """Read run folders and group them by method, options and recipe.

    The baseline is plain joint training, or without it the group of the first run. Runs whose recipes differ
    are compared all the same: labels name what is not as in the baseline, and a note says so. Runs of
    different nets or data are not.

    Args:
        folders: Of finished runs.
        pick_lr: Runs of a method that differ in their learning rate are a search: those at the rate of the
            best validation metrics stand for the method, and the cost of all of them is shown.
        published: A published table to show beside, a key of :data:`offramp.papers.catalogue.TABLES`.

    Raises:
        UserError: No folder, no such table, a folder that is no finished run, nets or data that differ, a run
            given twice, or no validation metrics to pick by.
    """
    if published is not None:
        published_table(published)  # a wrong name is told before any run is read
    groups, differing = grouped(folders, pick_lr=pick_lr)
    comparison = Comparison(groups, tuple(notes(groups, differing)))
    if published is None:
        return comparison
    columns = comparison.columns if comparison.result.classifies_at_exits else []  # the tables' own metric
    outputs = comparison.result.outputs.items()
    others = ", ".join(f"{name} ({heading(output.primary)})" for name, output in outputs)
    return replace(comparison, published=published_rows(published, columns, others))
