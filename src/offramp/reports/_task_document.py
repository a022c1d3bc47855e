"""Scores and differences of several tasks as plain values, for JSON: every metric, by output."""

from __future__ import annotations

import dataclasses
from math import isfinite
from typing import Any

from offramp.reports.columns import columns_of
from offramp.reports.groups import Group
from offramp.reports.paired import Difference, Spread, paired_difference, spread

__all__ = ["task_differences", "task_scores"]


def task_scores(group: Group, baseline: Group) -> dict[str, Any]:
    """All metrics of a group over its seeds, and its Delta-m; of the final epoch, and of the last ones."""
    found = {**_scores(group, baseline)}
    last, reference = group.last_epochs, baseline.last_epochs
    if last is not None and reference is not None:
        found["last_epochs"] = {"epochs": last.epochs_in_mean, **_scores(last, reference)}
    return found


def task_differences(group: Group, baseline: Group) -> dict[str, Any]:
    """All metrics of a group less the baseline's, paired by seed, and Delta-m, whose own baseline is 0."""
    found = {**_differences(group, baseline)}
    last, reference = group.last_epochs, baseline.last_epochs
    if last is not None and reference is not None:
        found["last_epochs"] = {
            "epochs": last.epochs_in_mean,
            **_differences(last, reference),
        }
    return found


def _scores(group: Group, baseline: Group) -> dict[str, Any]:
    outputs: dict[str, dict[str, Any]] = {}
    for column in columns_of(group.runs[0].result, "all"):
        outputs.setdefault(column.output, {})[column.metric] = _plain(group.spread_of(column))
    losses = [] if group is baseline else group.delta_m(baseline)
    return {"outputs": outputs, "delta_m": _plain(spread(losses)) if losses else None}


def _differences(group: Group, baseline: Group) -> dict[str, Any]:
    outputs: dict[str, dict[str, Any]] = {}
    for column in columns_of(group.runs[0].result, "all"):
        difference = group.difference_of(column, baseline)
        if difference is not None:
            outputs.setdefault(column.output, {})[column.metric] = _plain(difference)
    losses = group.delta_m(baseline)
    delta_m = _plain(paired_difference(losses, [0.0] * len(losses))) if losses else None
    return {"outputs": outputs, "delta_m": delta_m}


def _plain(value: Spread | Difference) -> dict[str, Any] | None:
    return dataclasses.asdict(value) if isfinite(value.mean) else None
