"""Calibration to a budget of operations, or to a measured latency."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from offramp.errors import UserError, shown
from offramp.exits.calibration._achieved import achieved
from offramp.exits.calibration._budget import (
    best,
    best_that_pays,
    cheapest,
    precise_within,
    published_within,
)
from offramp.exits.calibration.amounts import operations, seconds
from offramp.exits.calibration.reading import Reader
from offramp.exits.exit_logits import ExitLogits
from offramp.exits.path_costs import PathCosts
from offramp.exits.path_times import PathTimes
from offramp.exits.policy import Policy
from offramp.nets import MultiExitNet

__all__ = ["Rule", "to_budget", "to_latency"]

Rule = Literal["best", "published", "precision"]


def to_budget(
    recorded: ExitLogits,
    reader: Reader,
    costs: PathCosts,
    budget: object,
    *,
    rule: Rule = "best",
    per_class: bool = False,
) -> Policy:
    """A policy for a mean number of operations; see :func:`offramp.calibrate`.

    Raises:
        UserError: The budget is none, or no exit can be reached within it.
    """
    limit = operations(budget, costs.static)
    least, exit = cheapest(costs, recorded.num_exits)
    if limit < least:
        raise UserError(
            f"budget={shown(budget)} is {limit:.0f} operations per sample, and the cheapest answer, that of "
            f"exit {exit}, takes {least:.0f}; give `budget={least:.0f}` or more"
        )
    target: dict[str, Any] = {"budget": limit, "convention": costs.convention, "rule": rule}
    policy: Policy | None = Policy.full(recorded.num_exits)
    if rule == "published":
        policy = published_within(recorded, reader.fit(recorded), costs, limit)
    elif rule == "precision":
        found = precise_within(recorded, reader.fit(recorded), costs, limit, per_class=per_class)
        policy, target["precision"] = found or (None, None)
    elif limit < costs.static:
        policy = best(recorded, reader.fit(recorded), costs, limit, per_class=per_class)
    if policy is None:
        curve = "published curve" if rule == "published" else "curve of all precisions"
        raise UserError(
            f"the {curve} begins above budget={shown(budget)} on these samples; give a larger one, or "
            "`rule='best'`"
        )
    return replace(policy, calibration={"target": target, "achieved": achieved(policy, recorded, costs)})


def to_latency(
    recorded: ExitLogits,
    reader: Reader,
    net: MultiExitNet,
    latency: object,
    *,
    batch_size: int = 1,
    per_class: bool = False,
) -> Policy:
    """A policy for a mean time per sample; see :func:`offramp.calibrate`.

    Raises:
        UserError: The latency is none, or no exit can be reached within it.
    """
    reading = reader.fit(recorded)
    times = PathTimes(net, reading, batch_size)
    limit = seconds(latency, times.static)
    least, exit = cheapest(times, recorded.num_exits)
    if limit < least:
        raise UserError(
            f"latency={shown(latency)} is {_us(limit)} per sample, and the quickest answer, that of exit "
            f"{exit}, takes {_us(least)} here; give more, e.g. `latency='{_us(1.1 * least)}'`"
        )
    target = {"latency": limit, "batch_size": batch_size, "static": times.static}
    policy = Policy.full(recorded.num_exits)
    if limit < times.static:
        policy = best_that_pays(recorded, reading, times, limit, per_class=per_class)
    return replace(policy, calibration={"target": target, "achieved": achieved(policy, recorded, times)})


def _us(seconds: float) -> str:
    return f"{1e6 * seconds:.4g}us"
