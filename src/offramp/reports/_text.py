"""A comparison as text: scores, paired differences and costs, one table each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from offramp.reports._published import PublishedRows
from offramp.reports._published_tasks import PublishedTasks
from offramp.reports._task_text import task_parts
from offramp.reports.columns import Metrics, has_tasks
from offramp.reports.groups import Group, costs_once
from offramp.runs.result import Result
from offramp.tasks.outputs import are_exits, column, decimals, heading
from offramp.text_table import aligned, count

__all__ = [
    "comparison_text",
    "headings",
    "metric_in_words",
    "places_of",
    "unit_of_differences",
]


def headings(result: Result) -> dict[str, str]:
    """Headings of the scores: exits by number, other outputs with the metric that stands for them."""
    if are_exits(result.outputs):
        return {name: column(name) for name in result.scores}
    metrics = {name: f" {heading(output.primary)}" for name, output in result.outputs.items()}
    return {name: name + metrics.get(name, "") for name in result.scores}


def metric_in_words(result: Result) -> str:
    """What the scores are: the outputs' metric and its unit."""
    primary = next(iter(result.outputs.values())).primary
    return heading(primary).replace(" %", " in percent")


def places_of(baseline: Group) -> dict[str, int]:
    """Decimals of each score and of differences to it: two of percents and degrees, else by its size."""
    result = baseline.runs[0].result
    primary = next(iter(result.outputs.values())).primary  # of the average and the ensemble too
    return {
        name: decimals(result.outputs[name].primary if name in result.outputs else primary, score.mean)
        for name, score in baseline.scores.items()
    }


def comparison_text(
    title: str,
    groups: Sequence[Group],
    notes: Sequence[str],
    published: PublishedRows | PublishedTasks | None,
    metrics: Metrics,
) -> str:
    """Scores, paired differences to the first group, what the training cost, and the notes."""
    if has_tasks(groups[0].runs[0].result):
        shown = published if isinstance(published, PublishedTasks) else None
        parts = [*task_parts(title, groups, shown, metrics)]
    else:
        parts = [*_exit_parts(title, groups, published if isinstance(published, PublishedRows) else None)]
    parts.append(
        "cost of the training; seconds of runs side by side on one machine say little about speed\n"
        "K is the number of outputs, F a forward and B a backward pass of joint training"
    )
    parts.append(_costs(groups))
    notes = [*notes, *(published.notes if published else ())]
    if notes:
        parts.append("\n".join(f"note: {note}" for note in notes))
    return "\n\n".join(parts)


def _exit_parts(title: str, groups: Sequence[Group], published: PublishedRows | None) -> Iterator[str]:
    """Titles and tables of outputs that have one task."""
    baseline, *others = groups
    result = baseline.runs[0].result
    yield (
        f"{title}: {metric_in_words(result)} by {_noun(result)}, "
        "mean ± sample standard deviation over the seeds"
    )
    yield _scores(groups, published)
    if published is not None:
        yield published.title()
    if others:
        yield (
            f"difference to {baseline.label} in {unit_of_differences(result)}, paired by seed, "
            "± half of the 95 % t interval "
            f"(*: the interval of three or more seeds leaves out 0){_direction(result)}"
        )
        yield _differences(baseline, others)


def _noun(result: Result) -> str:
    return "exit" if are_exits(result.outputs) else "output"


def unit_of_differences(result: Result) -> str:
    """Points where all metrics are in percent."""
    percent = all(heading(output.primary).endswith("%") for output in result.outputs.values())
    return "points" if percent else "the unit of each metric"


def _direction(result: Result) -> str:
    """Where a negative difference is a gain; empty where there is no such column."""
    lower = [heading for name, heading in headings(result).items() if result.better[name] == "lower"]
    return f"; lower is better, so that a negative difference is a gain: {', '.join(lower)}" if lower else ""


def _scores(groups: Sequence[Group], published: PublishedRows | None) -> str:
    result = groups[0].runs[0].result
    blank = [""] * (len(result.scores) - len(result.outputs))  # the average and the ensemble
    rows = []
    for of, group in costs_once(groups):
        params, flops = zip(*group.costs, strict=True)
        rows.append([f"params{of}", *map(count, params), *blank])
        rows.append([f"FLOPs{of}", *map(count, flops), *blank])
    places = places_of(groups[0])
    rows += [
        [group.label, *(score.text(places[name]) for name, score in group.scores.items())] for group in groups
    ]
    rows += published.cells() if published else []
    return aligned([_noun(result), *headings(result).values()], rows)


def _differences(baseline: Group, others: Sequence[Group]) -> str:
    result = baseline.runs[0].result
    columns = [*headings(result).values()]
    places, rows = places_of(baseline), []
    for group in others:
        differences = group.minus(baseline)
        cells = ["no common seed", *[""] * (len(columns) - 1)]
        if differences is not None:
            cells = [difference.text(places[name]) for name, difference in differences.items()]
        rows.append([group.label, *cells])
    return aligned([_noun(result), *columns], rows)


def _costs(groups: Sequence[Group]) -> str:
    baseline = groups[0]
    header = ["method", "seeds", "s/epoch", f"x {baseline.label}", "passes a step", "joint epochs"]
    rows = [
        [
            group.label,
            ", ".join(map(str, group.seeds)),
            _text(group.seconds_per_epoch, lambda s: f"{s.mean:.{0 if s.mean >= 100 else 1}f}"),
            _text(group.relative_seconds(baseline), "{:.2f}".format),
            group.passes,
            _text(group.joint_epochs, "{:.4g}".format),
        ]
        for group in groups
    ]
    searched = [rate for group in groups for rate in group.rates]
    if searched:
        metric = heading(searched[0].metric).removesuffix(" %").replace("_", "-")
        header += ["lr", f"validation {metric} of each lr tried", "s in all"]
        for row, group in zip(rows, groups, strict=True):
            values = ", ".join(f"{rate.lr:.3g}: {rate.value:.2f}" for rate in group.rates)
            row += [f"{group.runs[0].recipe['lr']:.3g}", values, _text(group.search_seconds, "{:.0f}".format)]
    return aligned(header, rows, left=2)


def _text(value: Any, form: Callable[[Any], str]) -> str:
    return "" if value is None else form(value)
