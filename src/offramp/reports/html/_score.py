"""Columns of the runs' tables: exits with their average and ensemble, or the metrics of the tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from offramp.reports.columns import Column, columns_of, has_tasks
from offramp.reports.groups import Group
from offramp.reports.paired import Difference, Spread, paired_difference, spread
from offramp.tasks.outputs import ARROWS, are_exits, decimals, heading

__all__ = ["Score", "scores_of"]


@dataclass(frozen=True)
class Score:
    """A column of the tables.

    Attributes:
        title: Its heading.
        output: The output whose metric it is; None of averages, ensembles and Delta-m.
        better: Whether a ``"higher"`` or a ``"lower"`` value is better.
        of: The score of a group, where it has one.
        against: Its paired difference to the baseline.
        places: With how many decimals it and its differences are shown.
    """

    title: str
    output: str | None
    better: str
    of: Callable[[Group], Spread | None]
    against: Callable[[Group], Difference | None]
    places: int


def scores_of(groups: Sequence[Group]) -> Iterator[Score]:
    """The columns: exits with average and ensemble, or the tasks' metrics with Delta-m."""
    baseline = groups[0]
    result = baseline.runs[0].result
    if has_tasks(result):
        yield from (_of_task(each, baseline) for each in columns_of(result, "compared"))
        if len(groups) > 1:
            yield _delta_m(baseline)
    else:
        yield from (_of_score(name, baseline) for name in result.scores)


def _of_score(name: str, baseline: Group) -> Score:
    """The column of an exit, of their average or of the ensemble."""
    result = baseline.runs[0].result
    output = result.outputs.get(name)
    primary = next(iter(result.outputs.values())).primary if output is None else output.primary
    unnamed = output is None or are_exits(result.outputs)

    def against(group: Group) -> Difference | None:
        return (group.minus(baseline) or {}).get(name)

    return Score(
        title=name if unnamed else f"{name}\n{heading(primary)}",
        output=None if output is None else name,
        better=result.better[name],
        of=lambda group: group.scores[name],
        against=against,
        places=decimals(primary, baseline.scores[name].mean),
    )


def _of_task(of: Column, baseline: Group) -> Score:
    """The column of a metric of a task."""
    return Score(
        title=of.heading,
        output=of.output,
        better=of.better,
        of=lambda group: group.spread_of(of),
        against=lambda group: group.difference_of(of, baseline),
        places=decimals(of.metric, baseline.spread_of(of).mean),
    )


def _delta_m(baseline: Group) -> Score:
    """The column of Delta-m, whose own baseline is 0."""

    def of(group: Group) -> Spread | None:
        losses = [] if group is baseline else group.delta_m(baseline)
        return spread(losses) if losses else None

    def against(group: Group) -> Difference | None:
        losses = group.delta_m(baseline)
        return paired_difference(losses, [0.0] * len(losses)) if losses else None

    title = f"delta-m %{ARROWS['lower']}"
    return Score(title, output=None, better="lower", of=of, against=against, places=2)
