"""Runs of one net on one data set side by side; those of a method that differ in their seed are a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from offramp.checks import flag, of_kind, paths_of, word_of
from offramp.papers.catalogue import published_table
from offramp.papers.published import TaskTable
from offramp.reports._document import comparison_document
from offramp.reports._grouping import grouped
from offramp.reports._notes import notes
from offramp.reports._published import PublishedRows, published_rows
from offramp.reports._published_tasks import PublishedTasks, published_tasks
from offramp.reports._text import comparison_text, headings
from offramp.reports.columns import METRICS, Metrics, has_tasks
from offramp.reports.groups import Group
from offramp.runs.result import Result
from offramp.tasks.outputs import heading

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """Groups of runs of one net, or of nets with the same tasks, on one data set; the first is the baseline.

    Attributes:
        groups: The baseline, then the others in the order in which their runs were given.
        notes: Remarks to read beside the numbers.
        published: The rows of a published table to show beside the measured ones, if asked for.
        metrics: Of outputs with tasks of their own, which metrics the table shows.
    """

    groups: tuple[Group, ...]
    notes: tuple[str, ...]
    published: PublishedRows | PublishedTasks | None = None
    metrics: Metrics = "primary"

    @property
    def title(self) -> str:
        """The nets and the data."""
        nets = dict.fromkeys(run.net for group in self.groups for run in group.runs)
        return f"{', '.join(nets)} on {self.groups[0].runs[0].data}"

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
        return comparison_text(self.title, self.groups, self.notes, self.published, self.metrics)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain values: the runs' results, the groups' spreads, the paired differences."""
        return comparison_document(self.groups, self.notes, self.published)


def compare(
    folders: Sequence[str | Path],
    *,
    pick_lr: bool = False,
    published: str | None = None,
    baseline: str | Path | Sequence[str | Path] = (),
    metrics: Metrics = "primary",
) -> Comparison:
    """Read run folders and group them by method, options and recipe.

    Runs whose recipes differ are compared all the same: labels name what is not as in the baseline, and a
    note says so. Runs of different data are not, nor are those of different nets, unless their outputs are
    the same tasks.

    Args:
        folders: Of finished runs.
        pick_lr: Runs of a method that differ in their learning rate are a search: those at the rate of the
            best validation metrics stand for the method, and the cost of all of them is shown.
        published: A published table to show beside, a key of :data:`offramp.papers.catalogue.TABLES`.
        baseline: What differences and Delta-m are to: the label of a group, or folders of its runs. They may
            be of networks of one task each, which then count as one, seed by seed. By default plain joint
            training, or without it the group of the first run.
        metrics: Of outputs with tasks of their own, which metrics the table shows: ``primary``: one for each;
            ``compared``: those that Delta-m is the mean of; ``all``.

    Raises:
        UserError: No folder, no such table, a folder that is no finished run, nets or data that differ, a run
            given twice, no validation metrics to pick by, no such baseline, or a task that it lacks.
    """
    word_of("metrics", metrics, METRICS, "metrics")
    flag("pick_lr", pick_lr)
    of_kind("published", published, str | None, "the name of a published table")
    runs = paths_of("folders", folders, "runs")
    table = None if published is None else published_table(published)  # a wrong name before any run is read
    wanted = [baseline] if isinstance(baseline, str | Path) else baseline
    wanted = paths_of("baseline", wanted, "runs, or the label of a group")
    groups, differing = grouped(runs, pick_lr=pick_lr, baseline=wanted)
    comparison = Comparison(groups, tuple(notes(groups, differing)), metrics=metrics)
    if published is None or table is None:
        return comparison
    result = comparison.result
    if isinstance(table, TaskTable) and has_tasks(result):
        return replace(comparison, published=published_tasks(published, table, result))
    columns = comparison.columns if result.classifies_at_exits else []  # the tables' own metric
    others = ", ".join(f"{name} ({heading(output.primary)})" for name, output in result.outputs.items())
    return replace(comparison, published=published_rows(published, columns, others))
