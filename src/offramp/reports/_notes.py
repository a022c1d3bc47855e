"""Remarks to read beside the numbers of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from offramp.reports._single_task import JoinedRun
from offramp.reports.columns import columns_of, has_tasks
from offramp.reports.groups import Group
from offramp.tasks.outputs import are_exits, column, heading

__all__ = ["differing_data", "differing_recipes", "notes"]

MIXED = (
    "separate nets differ from a joint one in conflict, shared capacity, deep supervision and effective step "
    "at once, so that this is no measure of conflict alone"
)


def notes(groups: Sequence[Group], differing: Mapping[str, Any]) -> list[str]:
    """Remarks on a comparison, a line each, without a full stop.

    Args:
        groups: The baseline first.
        differing: The settings in which the runs' recipes are not all alike, and the baseline's values.
    """
    lines = [*differing_recipes(differing), *differing_data(groups)]
    if any(len(set(group.seeds) & set(groups[0].seeds)) == 1 for group in groups[1:]):
        lines.append("one common seed gives no interval; train each method with the same three or more seeds")
    if any(set(group.seeds) != set(groups[0].seeds) for group in groups[1:]):
        lines.append("not all methods have the same seeds; a difference is over the seeds that both have")
    for remarks in (_starts, _held_out, _micro_batches, _separate, _delta_m):
        lines += remarks(groups)
    return lines


def differing_recipes(differing: Mapping[str, Any]) -> list[str]:
    """A note on recipes that are not all alike; none if they are.

    Args:
        differing: The settings in which they differ, and the usual values.
    """
    if not differing:
        return []
    usual = ", ".join(f"{key}={value}" for key, value in differing.items())
    return [
        f"the recipes differ in {', '.join(differing)}: this compares more than methods; "
        f"where a label does not say otherwise: {usual}"
    ]


def differing_data(groups: Sequence[Group]) -> list[str]:
    """A note on data of one name whose samples or labels are not the same in all runs; none if they are.

    Args:
        groups: All of the runs.
    """
    runs = [run for group in groups for run in group.runs]
    sources = {run.labels: run.source for run in runs if run.labels.strip()}
    if len(sources) < 2:
        return []
    alike = len({*sources.values()}) < len(sources)
    told = [source + f" ({labels[:7]})" * alike for labels, source in sources.items()]
    return [
        f"the data are called {runs[0].data} in all runs, and have not the same samples or labels: this "
        f"compares more than methods; they are those of {_some(told)}"
    ]


def _starts(groups: Sequence[Group]) -> list[str]:
    """A note on runs of one seed that began from different weights, and so compare more than methods."""
    by_seed: dict[int, set[str]] = {}
    for run in (run for group in groups for run in group.runs):
        by_seed.setdefault(run.seed, set()).add(run.init.get("digest", ""))
    if all(len(digests) == 1 for digests in by_seed.values()):
        return []
    labels: dict[tuple[str, ...], list[str]] = {}  # of the groups, by what their runs began from
    for group in groups:
        sources = dict.fromkeys(run.init.get("source", "weights of their own") for run in group.runs)
        labels.setdefault((*sources,), []).append(group.label)
    told = [f"from {_some(sources)}: {_some(members)}" for sources, members in labels.items()]
    return [f"the runs began from different weights: this compares more than methods; {_some(told, '; ')}"]


def _held_out(groups: Sequence[Group]) -> list[str]:
    """A note on runs whose nets were trained on fewer samples than others, since a share was held out."""
    shares = {group.label: group.runs[0].held_out for group in groups}
    if len({*shares.values()}) < 2:
        return []
    told = [f"{share:g} in {label}" for label, share in shares.items() if share]
    return [
        f"a share of the training samples trained no net, but weights of losses alone: {_some(told)}; epochs "
        "there are over the rest"
    ]


def _some(words: Sequence[str], between: str = ", ") -> str:
    """The first words of a list, and how many more there are; a list of four is told whole."""
    return between.join(words if len(words) <= 4 else [*words[:3], f"and {len(words) - 3} more"])


def _micro_batches(groups: Sequence[Group]) -> list[str]:
    """A note on runs whose ``accumulate="auto"`` has settled at other numbers than that of others."""
    settled = {
        group.label: sorted({run.result.micro_batches for run in group.runs if run.result.micro_batches})
        for group in groups
    }
    if len({number for numbers in settled.values() for number in numbers}) < 2:
        return []
    told = [f"{' and '.join(map(str, numbers))} in {label}" for label, numbers in settled.items() if numbers]
    return [
        f"accumulate=auto has cut batches into other numbers of micro-batches, {', '.join(told)}, over which "
        "batch norm normalises; give all runs the largest as accumulate"
    ]


def _separate(groups: Sequence[Group]) -> list[str]:
    """A note on the outputs at which separate networks beat a joint one, and on what that does not say."""
    by_label = {group.label: group for group in groups}
    if not {"joint", "separate"} <= by_label.keys():
        return []
    differences = by_label["separate"].minus(by_label["joint"])
    if differences is None:
        return []
    result = groups[0].runs[0].result
    higher = all(output.better == "higher" for output in result.outputs.values())
    noun, better = "exit" if are_exits(result.outputs) else "output", "above" if higher else "better than"
    gains = {
        column(name): differences[name]
        for name, output in result.outputs.items()
        if (differences[name].mean > 0 if output.better == "higher" else differences[name].mean < 0)
    }
    above = [*gains]
    if not above:
        return [f"separate is not {better} joint at any {noun}; {MIXED}"]
    places = f"every {noun}" if len(above) == len(result.outputs) else f"{noun} {', '.join(above)} only"
    decided = [name for name, difference in gains.items() if difference.decided]
    beyond = f"at {noun} {', '.join(decided)}" if decided else f"at no {noun}"
    return [
        f"separate is {better} joint at {places}, by their means, and {beyond} by more than the spread over "
        f"the seeds explains; {MIXED}"
    ]


def _delta_m(groups: Sequence[Group]) -> list[str]:
    """A note on what Delta-m is relative to, or on why there is none."""
    baseline, *others = groups
    if not has_tasks(baseline.runs[0].result) or not others:
        return []
    zeros = [
        f"{column.output} {heading(column.metric)}"
        for column in columns_of(baseline.runs[0].result, "compared")
        if not all(run.result.outputs[column.output].metrics[column.metric] for run in baseline.runs)
    ]
    if zeros:
        return [f"no delta-m: {baseline.label} has {', '.join(zeros)} of 0, to which no change is relative"]
    if isinstance(baseline.runs[0], JoinedRun) or baseline.runs[0].method == "separate":
        return []
    return [
        f"delta-m is relative to {baseline.label}; that of papers is to one network for each task: to "
        "runs of separate, or of such networks, as the baseline (offramp compare --baseline)"
    ]
