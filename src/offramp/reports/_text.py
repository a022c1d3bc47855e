"""A comparison as text: scores, paired differences and costs, one table each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from offramp.reports._published import PublishedRows
from offramp.reports.groups import Group
from offramp.runs.result import Result
from offramp.tasks.outputs import are_exits, column, heading
from offramp.text_table import aligned, count

__all__ = [
    "comparison_text",
    "difference_headings",
    "headings",
    "metric_in_words",
    "unit_of_differences",
]

_DELTA_M = "delta-m %"


def headings(result: Result) -> dict[str, str]:
    """Headings of the scores: exits by number, other outputs with the metric that stands for them."""
    if are_exits(result.outputs):
        return {name: column(name) for name in result.scores}
    metrics = {name: f" {heading(output.primary)}" for name, output in result.outputs.items()}
    return {name: name + metrics.get(name, "") for name in result.scores}


def difference_headings(result: Result) -> dict[str, str]:
    """Headings of the differences: those of the scores, and of the mean over several tasks."""
    return headings(result) | ({} if result.average is not None else {"delta_m": _DELTA_M})


def metric_in_words(result: Result) -> str:
    """What the scores are: the outputs' one metric and its unit, or that each output has its own."""
    primaries = {output.primary for output in result.outputs.values()}
    if len(primaries) > 1:
        return "each output's own metric"
    return heading(primaries.pop()).replace(" %", " in percent")


def comparison_text(
    title: str, groups: Sequence[Group], notes: Sequence[str], published: PublishedRows | None
) -> str:
    """Scores, paired differences to the first group, what the training cost, and the notes."""
    baseline, *others = groups
    result = baseline.runs[0].result
    parts = [
        f"{title}: {metric_in_words(result)} by {_noun(result)}, "
        "mean ± sample standard deviation over the seeds",
        _scores(groups, published),
    ]
    if published is not None:
        parts.append(published.title())
    if others:
        parts.append(
            f"difference to {baseline.label} in {unit_of_differences(result)}, paired by seed, "
            "± half of the 95 % t interval "
            f"(*: the interval of three or more seeds leaves out 0){_direction(result)}"
        )
        parts.append(_differences(baseline, others))
    parts.append("cost of the training; seconds of runs side by side on one machine say little about speed")
    parts.append(_costs(groups))
    notes = [*notes, *(published.notes if published else ())]
    if notes:
        parts.append("\n".join(f"note: {note}" for note in notes))
    return "\n\n".join(parts)


def _noun(result: Result) -> str:
    return "exit" if are_exits(result.outputs) else "output"


def unit_of_differences(result: Result) -> str:
    """Points where all metrics are in percent."""
    percent = all(heading(output.primary).endswith("%") for output in result.outputs.values())
    return "points" if percent else "the unit of each metric"


def _direction(result: Result) -> str:
    """Where a negative difference is a gain; empty where there is no such column."""
    names = difference_headings(result).items()
    lower = [heading for name, heading in names if result.better.get(name, "lower") == "lower"]
    return f"; lower is better, so that a negative difference is a gain: {', '.join(lower)}" if lower else ""


def _scores(groups: Sequence[Group], published: PublishedRows | None) -> str:
    result = groups[0].runs[0].result
    blank = [""] * (len(result.scores) - len(result.outputs))  # the average and the ensemble
    rows = []
    for group in groups:
        if group is groups[0] or group.costs != groups[0].costs:
            of = "" if group is groups[0] else f" {group.label}"
            params, flops = zip(*group.costs, strict=True)
            rows.append([f"params{of}", *map(count, params), *blank])
            rows.append([f"FLOPs{of}", *map(count, flops), *blank])
    rows += [[group.label, *map(str, group.scores.values())] for group in groups]
    rows += published.cells() if published else []
    return aligned([_noun(result), *headings(result).values()], rows)


def _differences(baseline: Group, others: Sequence[Group]) -> str:
    result = baseline.runs[0].result
    columns = [*difference_headings(result).values()]
    rows = []
    for group in others:
        differences = group.minus(baseline)
        blank = ["no common seed", *[""] * (len(columns) - 1)]
        rows.append([group.label, *(blank if differences is None else map(str, differences.values()))])
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
