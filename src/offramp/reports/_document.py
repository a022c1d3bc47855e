"""A comparison as plain values, for JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from offramp.reports._published import PublishedRows
from offramp.reports._published_tasks import PublishedTasks
from offramp.reports._single_task import JoinedRun
from offramp.reports._task_document import task_differences, task_scores
from offramp.reports.columns import has_tasks
from offramp.reports.groups import Group
from offramp.reports.paired import Difference, Spread
from offramp.runs.result import Result

__all__ = ["comparison_document"]


def comparison_document(
    groups: Sequence[Group], notes: Sequence[str], published: PublishedRows | PublishedTasks | None
) -> dict[str, Any]:
    """The runs' results, the groups' spreads, the paired differences to the first group, and the notes."""
    baseline, *others = groups
    result = baseline.runs[0].result
    tasks = has_tasks(result)
    return {
        "runs": [
            {"folder": str(run.folder), **run.result.to_json()}
            for group in groups
            for joined in group.runs
            for run in (joined.parts if isinstance(joined, JoinedRun) else [joined])
        ],
        "groups": [
            {
                "label": group.label,
                "seeds": group.seeds,
                **(task_scores(group, baseline) if tasks else _named(group.scores, result)),
                "seconds": _plain(group.seconds),
                "seconds_per_epoch": _plain(group.seconds_per_epoch),
                "relative_seconds": group.relative_seconds(baseline),
                "passes": group.passes,
                "joint_epochs": group.joint_epochs,
                "search": _search(group),
            }
            for group in groups
        ],
        "differences": [
            {
                "label": group.label,
                "baseline": baseline.label,
                **(task_differences(group, baseline) if tasks else _named(differences, result)),
            }
            for group in others
            if (differences := group.minus(baseline)) is not None
        ],
        "notes": list(notes),
        **({} if published is None else {"published": published.to_dict()}),
    }


def _plain(value: Spread | Difference | None) -> dict[str, Any] | None:
    return None if value is None else dataclasses.asdict(value)


def _named(scores: Mapping[str, Spread] | Mapping[str, Difference], result: Result) -> dict[str, Any]:
    """Scores under the published keys of exits that classify, those of other outputs by name."""
    plain = {name: _plain(score) for name, score in scores.items()}
    if result.classifies_at_exits:
        exits = [{"top1": plain[name]} for name in result.outputs]
        return {"exits": exits, "average_top1": plain["average"], "ensemble_top1": plain["ensemble"]}
    outputs = {name: {output.primary: plain.pop(name)} for name, output in result.outputs.items()}
    return {"outputs": outputs, **plain}


def _search(group: Group) -> dict[str, Any] | None:
    if not group.rates:
        return None
    tried = [
        {"lr": rate.lr, "seeds": list(rate.seeds), f"val_{rate.metric}": rate.value, "seconds": rate.seconds}
        for rate in group.rates
    ]
    return {"lr": group.runs[0].recipe["lr"], "tried": tried, "seconds": group.search_seconds}
