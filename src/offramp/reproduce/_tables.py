"""The report on a published table: every row that was trained, beside what was published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from offramp.reports import Comparison, beside_published, compare, write_report
from offramp.reproduce.experiment import Report, Row
from offramp.reproduce.planning import Plan
from offramp.sweeps import SweepResult

__all__ = ["table_report"]


def table_report(plan: Plan, outcome: SweepResult) -> Report:
    """Compare the finished runs with the published rows, and write the comparison into the sweep's folder."""
    folders = {
        row.label: outcome.folders[entry.label]
        for row, entry in zip(plan.rows, plan.sweep.entries, strict=True)
    }
    baseline = [str(folder) for folder in folders.get(plan.experiment.baseline, ())]
    comparison = compare(outcome.finished, published=plan.experiment.name, baseline=baseline)
    comparison_document = write_report(comparison, plan.sweep.out)
    asked = [row for row in plan.experiment.rows if row in plan.rows or row in plan.untrained]
    beside, table = beside_published(comparison, _groups(comparison, folders, asked))
    rows = [
        {**each.to_dict(), "method": row.trained_as, "settings": dict(row.settings)}
        for each, row in zip(beside, asked, strict=True)
    ]
    return Report({"rows": rows, "comparison": comparison_document}, table)


def _groups(
    comparison: Comparison, folders: Mapping[str, tuple[Path, ...]], rows: list[Row]
) -> dict[str, str | None]:
    """Label of each published row -> that of the group that holds its runs."""
    by_folder = {run.folder: group.label for group in comparison.groups for run in group.runs}
    return {
        row.label: next((by_folder[folder] for folder in folders.get(row.label, ())), None) for row in rows
    }
