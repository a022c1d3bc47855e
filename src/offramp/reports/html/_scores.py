"""The runs as tables: metrics with their spread, paired differences, what the training cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from offramp.reports.comparison import Comparison
from offramp.reports.groups import Group, costs_once
from offramp.reports.html._charts import keys_of
from offramp.reports.html._differences import difference_parts
from offramp.reports.html._parts import Cell, Note, Section, Table, named, with_aside
from offramp.reports.html._runs import LOSS, Runs
from offramp.reports.html._score import Score, scores_of
from offramp.reports.paired import Spread
from offramp.tasks.outputs import heading, noun_of
from offramp.text_table import count

__all__ = ["scores_section"]


def scores_section(runs: Runs) -> Section:
    """The table of the runs, the differences, and what the training cost."""
    parts: list[Any] = []
    if runs.comparison is not None:
        parts += _compared(runs.comparison)
    if runs.unfinished:
        parts.append(_unfinished(runs))
    lead = "What each method reaches on the test set, and what its training took."
    return Section("runs", "Runs", lead, parts)


def _compared(comparison: Comparison) -> Iterator[Any]:
    groups, of_epochs = _view(comparison.groups)
    scores = [*scores_of(groups)]
    yield _means(groups, scores, of_epochs)
    if len(groups) > 1:
        yield from difference_parts(groups, scores)
    yield _training(comparison.groups)
    yield from map(Note, comparison.notes)


def _view(groups: Sequence[Group]) -> tuple[Sequence[Group], str]:
    """The groups with the mean of their last epochs, if all have one; and the words that say so."""
    last = [group.last_epochs for group in groups]
    known = [group for group in last if group is not None]
    if len(known) < len(groups):
        return groups, ""
    return known, f"{known[0].of_epochs}; "


def _means(groups: Sequence[Group], scores: Sequence[Score], of_epochs: str) -> Table:
    result = groups[0].runs[0].result
    noun = noun_of(result.outputs)
    rows: list[list[Cell | str]] = []
    for of, group in costs_once(groups):
        costs = dict(zip(group.runs[0].result.outputs, group.costs, strict=True))
        for at, what in enumerate((f"parameters{of}", f"operations{of}")):
            seen: set[str | None] = {None}
            row: list[Cell | str] = [Cell(what, "quiet")]
            for score in scores:
                new = score.output is not None and score.output not in seen
                row.append(Cell(count(costs[str(score.output)][at]) if new else "", "quiet"))
                seen.add(score.output)
            rows.append(row)
    for group, key in zip(groups, keys_of([group.label for group in groups]), strict=True):
        cells = [_spread(score.of(group), score.places) for score in scores]
        rows.append([named(key), *cells])
    metrics = {heading(output.primary) for output in result.outputs.values()}
    what = f"{metrics.pop().capitalize()} by {noun}" if len(metrics) == 1 else f"Metrics by {noun}"
    shows = (
        f"{of_epochs}mean ± sample standard deviation over the seeds; parameters and operations of a sample "
        f"are those up to each {noun}"
    )
    return Table(what, ["method", *(score.title for score in scores)], rows, _sentence(shows))


def _spread(value: Spread | None, places: int) -> Cell:
    if value is None:
        return Cell("")
    return with_aside(value.text(places))


def _training(groups: Sequence[Group]) -> Table:
    """Seeds, epochs and time of the training."""
    baseline = groups[0]
    rows: list[list[Cell | str]] = []
    for group, key in zip(groups, keys_of([group.label for group in groups]), strict=True):
        seconds, relative = group.seconds_per_epoch, group.relative_seconds(baseline)
        epochs = group.joint_epochs
        rows.append(
            [
                named(key),
                ", ".join(map(str, group.seeds)),
                group.passes,
                "" if epochs is None else f"{epochs:.4g}",
                "" if seconds is None else f"{seconds.mean:.{0 if seconds.mean >= 100 else 1}f}",
                "" if relative is None else f"{relative:.2f}",
            ]
        )
    shows = (
        "K is the number of outputs, F a forward and B a backward pass of joint training; seconds of runs "
        "side by side on one machine say little about speed."
    )
    header = [
        "method",
        "seeds",
        "passes\na step",
        "joint\nepochs",
        "seconds\nan epoch",
        f"times\n{baseline.label}",
    ]
    return Table("Cost of the training", header, rows, shows, left=3)


def _unfinished(runs: Runs) -> Table:
    """How far the runs are that have no result."""
    rows = []
    for run in runs.unfinished:
        last = run.epochs[-1] if run.epochs else {}
        losses = [value for name, value in last.items() if name.startswith(LOSS)]
        rows.append(
            [
                run.method,
                str(run.folder),
                str(run.record["seed"]),
                f"{len(run.epochs)} of {run.record['recipe']['epochs']}",
                ", ".join(f"{loss:.3g}" for loss in losses),
            ]
        )
    header = ["method", "folder", "seed", "epochs", "losses of the last epoch"]
    shows = "Runs without a result: they are in training, or were stopped."
    return Table("Not finished", header, rows, shows, left=2)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
