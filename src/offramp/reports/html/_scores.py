"""The runs as tables: metrics with their spread, paired differences, what the training cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from offramp.reports.columns import Column, columns_of, has_tasks
from offramp.reports.comparison import Comparison
from offramp.reports.groups import Group, costs_once
from offramp.reports.html._charts import categories, keys_of, quantity, scale_of, spec
from offramp.reports.html._parts import Cell, Chart, Legend, Note, Section, Table
from offramp.reports.html._runs import Runs
from offramp.reports.paired import Difference, Spread, paired_difference, spread
from offramp.tasks.outputs import ARROWS, are_exits, column, decimals, heading, noun_of
from offramp.text_table import count

__all__ = ["scores_section"]


@dataclass(frozen=True)
class _Score:
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
    scores = [*_scores(groups)]
    yield _means(groups, scores, of_epochs)
    if len(groups) > 1:
        yield from _differences(groups, scores)
    yield _training(comparison.groups)
    yield from map(Note, comparison.notes)


def _view(groups: Sequence[Group]) -> tuple[Sequence[Group], str]:
    """The groups with the mean of their last epochs, if all have one; and the words that say so."""
    last = [group.last_epochs for group in groups]
    known = [group for group in last if group is not None]
    if len(known) < len(groups):
        return groups, ""
    return known, f"mean of the last {known[0].epochs_in_mean} epochs; "


def _scores(groups: Sequence[Group]) -> Iterator[_Score]:
    """The columns: exits with average and ensemble, or the tasks' metrics with Delta-m."""
    baseline = groups[0]
    result = baseline.runs[0].result
    if has_tasks(result):
        yield from (_of_task(each, baseline) for each in columns_of(result, "compared"))
        if len(groups) > 1:
            yield _delta_m(baseline)
    else:
        yield from (_of_score(name, baseline) for name in result.scores)


def _of_score(name: str, baseline: Group) -> _Score:
    """The column of an exit, of their average or of the ensemble."""
    result = baseline.runs[0].result
    output = result.outputs.get(name)
    primary = next(iter(result.outputs.values())).primary if output is None else output.primary
    unnamed = output is None or are_exits(result.outputs)

    def against(group: Group) -> Difference | None:
        return (group.minus(baseline) or {}).get(name)

    return _Score(
        title=name if unnamed else f"{name}\n{heading(primary)}",
        output=None if output is None else name,
        better=result.better[name],
        of=lambda group: group.scores[name],
        against=against,
        places=decimals(primary, baseline.scores[name].mean),
    )


def _of_task(of: Column, baseline: Group) -> _Score:
    """The column of a metric of a task."""
    return _Score(
        title=of.heading,
        output=of.output,
        better=of.better,
        of=lambda group: group.spread_of(of),
        against=lambda group: group.difference_of(of, baseline),
        places=decimals(of.metric, baseline.spread_of(of).mean),
    )


def _delta_m(baseline: Group) -> _Score:
    """The column of Delta-m, whose own baseline is 0."""

    def of(group: Group) -> Spread | None:
        losses = [] if group is baseline else group.delta_m(baseline)
        return spread(losses) if losses else None

    def against(group: Group) -> Difference | None:
        losses = group.delta_m(baseline)
        return paired_difference(losses, [0.0] * len(losses)) if losses else None

    title = f"delta-m %{ARROWS['lower']}"
    return _Score(title, output=None, better="lower", of=of, against=against, places=2)


def _means(groups: Sequence[Group], scores: Sequence[_Score], of_epochs: str) -> Table:
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
        rows.append([Cell(group.label, "", key.colour), *cells])
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
    return _with_aside(value.text(places))


def _with_aside(text: str, tone: str = "") -> Cell:
    """A mean, and behind it what follows its ``±``."""
    mean, sign, rest = text.rstrip().partition(" ± ")
    return Cell(mean, tone, aside=f"± {rest}" if sign else "")


def _differences(groups: Sequence[Group], scores: Sequence[_Score]) -> Iterator[Any]:
    """A table of the paired differences, and a picture of them where they are of one unit."""
    baseline, *others = groups
    keys = keys_of([group.label for group in groups])[1:]
    rows: list[list[Cell | str]] = []
    values = []
    for group, key in zip(others, keys, strict=True):
        found = [score.against(group) for score in scores]
        cells = [_difference(each, score) for each, score in zip(found, scores, strict=True)]
        if not any(found):
            cells[0] = Cell("no common seed", "quiet")
        rows.append([Cell(group.label, "", key.colour), *cells])
        values += [
            {"of": group.label, "x": column(score.title), "y": each.mean, "low": each.low, "high": each.high}
            for each, score in zip(found, scores, strict=True)
            if each is not None
        ]
    shows = (
        f"Paired by seed, ± half of the 95 % interval (Student's t); a star marks an interval of three or "
        f"more seeds that leaves out 0, ▲ for the better and ▼ for the worse than {baseline.label}."
    )
    header = ["method", *(score.title for score in scores)]
    yield Table(f"Difference to {baseline.label}", header, rows, shows)
    primaries = {output.primary for output in baseline.runs[0].result.outputs.values()}
    if values and len(primaries) == 1 and not has_tasks(baseline.runs[0].result):
        order = [column(score.title) for score in scores]
        yield Legend(keys)
        shows = f"Dots: mean difference; bars: its 95 % interval; the line at 0 is {baseline.label}."
        picture = _intervals(values, order, keys)
        yield Chart(f"Difference to {baseline.label}, {heading(primaries.pop())}", [("", picture)], shows)


def _difference(found: Difference | None, score: _Score) -> Cell:
    if found is None:
        return Cell("")
    text = found.text(score.places)
    if not found.decided:
        return _with_aside(text)
    gain = (found.mean > 0) == (score.better == "higher")
    return _with_aside(f"{'▲' if gain else '▼'} {text}", "better" if gain else "worse")


def _intervals(values: Sequence[Any], order: Sequence[str], keys: Sequence[Any]) -> dict[str, Any]:
    """Dots with their intervals, beside each other at each score."""
    x = categories("x", order, "exit" if all(name.isdecimal() for name in order[:1]) else None)
    beside = {"field": "of", "type": "nominal", "sort": [key.label for key in keys]}
    y = quantity("y", None, padding=8)
    tooltip = [{"field": "of", "title": " "}, {"field": "x", "title": "at"}, *(
        {"field": name, "title": title, "format": "+.2f"}
        for name, title in (("y", "difference"), ("low", "from"), ("high", "to"))
    )]  # fmt: skip
    layer: list[dict[str, Any]] = [
        {"mark": "rule", "data": {"values": [{}]}, "encoding": {"y": {"datum": 0}}},
        {"mark": {"type": "point", "filled": True, "size": 50, "opacity": 1},
         "encoding": {"x": x, "xOffset": beside, "y": y, "color": scale_of(keys), "tooltip": tooltip}},
    ]  # fmt: skip
    if known := [value for value in values if value["low"] is not None]:
        interval = {"x": x, "xOffset": beside, "y": {"field": "low", "type": "quantitative", "title": None},
                    "y2": {"field": "high"}, "color": scale_of(keys)}  # fmt: skip
        bars = {"data": {"values": known}, "mark": {"type": "rule", "strokeWidth": 2}, "encoding": interval}
        layer.insert(1, bars)
    return spec(values, 220, layer=layer)


def _training(groups: Sequence[Group]) -> Table:
    """Seeds, epochs and time of the training."""
    baseline = groups[0]
    rows: list[list[Cell | str]] = []
    for group, key in zip(groups, keys_of([group.label for group in groups]), strict=True):
        seconds, relative = group.seconds_per_epoch, group.relative_seconds(baseline)
        epochs = group.joint_epochs
        rows.append(
            [
                Cell(group.label, "", key.colour),
                ", ".join(map(str, group.seeds)),
                group.passes,
                "" if epochs is None else f"{epochs:.4g}",
                "" if seconds is None else f"{seconds.mean:.{0 if seconds.mean >= 100 else 1}f}",
                "" if relative is None else f"{relative:.2f}",
            ]
        )
    shows = (
        "F is a forward and B a backward pass of joint training; seconds of runs side by side on one machine "
        "say little about speed."
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
        losses = [value for name, value in last.items() if name.startswith("train_loss_")]
        rows.append(
            [
                str(run.record["method"]),
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
