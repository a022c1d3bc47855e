"""Scores and gains of several tasks as text: a method a row, a metric a column, Delta-m at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import fill

from offramp.reports._published_tasks import PublishedTasks
from offramp.reports.columns import Column, Metrics, columns_of
from offramp.reports.groups import Group, costs_once
from offramp.reports.paired import paired_difference, spread
from offramp.tasks.outputs import ARROWS, decimals
from offramp.text_table import WIDTH, count, folded

__all__ = ["DELTA_M", "task_parts"]

WORDS: dict[Metrics, str] = {
    "primary": "the metric that stands for each task",
    "compared": "the metrics that delta-m is the mean of",
    "all": "all metrics",
}
DELTA_M = f"all tasks\ndelta-m %{ARROWS['lower']}"


def task_parts(
    title: str, groups: Sequence[Group], published: PublishedTasks | None, metrics: Metrics
) -> Iterator[str]:
    """Titles and tables: of the mean of the last epochs where the runs have it, and of the final epoch."""
    columns = columns_of(groups[0].runs[0].result, metrics)
    views = _views(groups)
    for number, (name, view) in enumerate(views.items()):
        of = f", {name}" if name else ""
        yield fill(
            f"{title}: {WORDS[metrics]}{of}, mean ± sample standard deviation over the seeds; "
            "↑ higher is better, ↓ lower is better",
            WIDTH,
        )
        yield _scores(view, columns, published if number == 0 else None)
        if number == 0 and published is not None:
            yield fill(published.title(), WIDTH)
    name, view = next(iter(views.items()))
    if len(view) > 1:
        of = f" ({name})" if name else ""
        yield fill(
            f"gain over {view[0].label}{of} in the unit of each metric, + is better for all of them; of "
            "delta-m, which is a loss, - is better; paired by seed, ± half of the 95 % t interval (*: the "
            "interval of three or more seeds leaves out 0)",
            WIDTH,
        )
        yield _gains(view, columns)


def _views(groups: Sequence[Group]) -> dict[str, Sequence[Group]]:
    """The groups with the results of the last epochs, if all have them, and with those of the final one."""
    last = [group.last_epochs for group in groups]
    known = [group for group in last if group is not None]
    if len(known) < len(groups):
        return {"": groups}
    return {known[0].of_epochs: known, "final epoch": groups}


def _scores(groups: Sequence[Group], columns: Sequence[Column], published: PublishedTasks | None) -> str:
    baseline = groups[0]
    shown = _decimals(baseline, columns)
    rows = []
    for of, group in costs_once(groups):
        params, flops = zip(*group.costs, strict=True)
        rows.append([f"params{of}", *_by_output(columns, group, params), ""])
        rows.append([f"FLOPs{of}", *_by_output(columns, group, flops), ""])
    for group in groups:
        losses = [] if group is baseline else group.delta_m(baseline)
        values = [group.spread_of(column).text(shown[column]) for column in columns]
        rows.append([group.label, *values, spread(losses).text() if losses else ""])
    rows += published.cells(columns, shown) if published else []
    return folded(["method", *(column.heading for column in columns), DELTA_M], rows)


def _by_output(columns: Sequence[Column], group: Group, costs: Sequence[int | None]) -> list[str]:
    """Each output's cost under the first of its columns."""
    of = dict(zip(group.runs[0].result.outputs, costs, strict=True))
    seen: set[str] = set()
    cells = []
    for column in columns:
        cells.append("" if column.output in seen else count(of[column.output]))
        seen.add(column.output)
    return cells


def _gains(groups: Sequence[Group], columns: Sequence[Column]) -> str:
    baseline, *others = groups
    shown = _decimals(baseline, columns)
    rows = []
    for group in others:
        cells = []
        for column in columns:
            difference = group.difference_of(column, baseline)
            if difference is not None and column.better == "lower":
                difference = difference.negated
            cells.append("" if difference is None else difference.text(shown[column]))
        losses = group.delta_m(baseline)
        delta_m = paired_difference(losses, [0.0] * len(losses)).text() if losses else ""
        if not any(cells):
            cells[0] = "no common seed"
        rows.append([group.label, *cells, delta_m])
    return folded(["method", *(column.heading for column in columns), DELTA_M], rows)


def _decimals(group: Group, columns: Sequence[Column]) -> dict[Column, int]:
    return {column: decimals(column.metric, group.spread_of(column).mean) for column in columns}
