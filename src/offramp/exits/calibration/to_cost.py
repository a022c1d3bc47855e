"""Calibration to a budget of operations, to a measured latency, or to both."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any, Literal

from offramp.errors import UserError, shown
from offramp.exits.calibration import amounts
from offramp.exits.calibration._achieved import achieved
from offramp.exits.calibration._budget import (
    best,
    cheapest,
    precise_within,
    published_within,
)
from offramp.exits.calibration.reading import Reader
from offramp.exits.decisions import Paths, decide
from offramp.exits.exit_logits import ExitLogits
from offramp.exits.path_costs import PathCosts
from offramp.exits.path_times import PathTimes
from offramp.exits.policy import Policy
from offramp.nets import MultiExitNet

__all__ = ["Rule", "to_budget", "to_budget_and_latency", "to_latency"]

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
    limit = _operations(recorded, costs, budget)
    target: dict[str, Any] = {"budget": limit, "convention": costs.convention, "rule": rule}
    if rule != "best":
        policy, found = _on_a_curve(
            recorded, reader.fit(recorded), costs, limit, f"budget={shown(budget)}", rule, per_class=per_class
        )
        target |= found
    elif limit < costs.static:
        policy = best(recorded, reader.fit(recorded), costs, limit, per_class=per_class)
    else:
        policy = reader.full(recorded)
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
    limit = _seconds(recorded, times, latency)
    if limit < times.static:
        policy = best(recorded, reading, times, limit, per_class=per_class, must_pay=True)
    else:
        policy = reader.full(recorded)
    target = _timed(limit, times, batch_size)
    return replace(policy, calibration={"target": target, "achieved": achieved(policy, recorded, times)})


def to_budget_and_latency(
    recorded: ExitLogits,
    reader: Reader,
    net: MultiExitNet,
    costs: PathCosts,
    budget: object,
    latency: object,
    *,
    rule: Rule = "best",
    batch_size: int = 1,
    per_class: bool = False,
) -> Policy:
    """A policy for a mean number of operations and a mean time per sample; see :func:`offramp.calibrate`.

    Raises:
        UserError: The budget or the latency is none, or no exit can be reached within both.
    """
    operations = _operations(recorded, costs, budget)
    reading = reader.fit(recorded)
    times = PathTimes(net, reading, batch_size)
    seconds = _seconds(recorded, times, latency)
    shares = _Tighter((costs, operations), (times, seconds))
    least, exit = cheapest(shares, recorded.num_exits)
    wanted = f"budget={shown(budget)} and latency={shown(latency)}"
    if least > 1:
        raise UserError(
            f"no exit is within {wanted} together; with {math.ceil(100 * least) / 100:.2f} times as much of "
            f"both exit {exit} is, give these or more"
        )
    target: dict[str, Any] = {"budget": operations, "convention": costs.convention, "rule": rule}
    if rule != "best":
        policy, found = _on_a_curve(recorded, reading, shares, 1.0, wanted, rule, per_class=per_class)
        target |= found
    elif shares.of([recorded.num_exits])[-1] > 1:
        policy = best(recorded, reading, shares, 1.0, per_class=per_class, must_pay=True)
    else:
        policy = reader.full(recorded)
    target |= _timed(seconds, times, batch_size)
    found = achieved(policy, recorded, costs) | {"seconds": decide(recorded, policy, times).mean_cost}
    return replace(policy, calibration={"target": target, "achieved": found})


class _Tighter:
    """What it takes to leave at each exit, in shares of the tighter of several limits.

    A mean of the greatest is no less than the greatest of the means: who keeps a mean of 1 keeps to all
    limits.
    """

    def __init__(self, *limits: tuple[Paths, float]) -> None:
        self._limits = limits

    def of(self, evaluated: Collection[int]) -> list[float]:
        each = [[cost / limit for cost in paths.of(evaluated)] for paths, limit in self._limits]
        return [max(shares) for shares in zip(*each, strict=True)]


def _operations(recorded: ExitLogits, costs: PathCosts, budget: object) -> float:
    """The operations that a budget allows, some exit within them."""
    limit = amounts.operations(budget, costs.static)
    least, exit = cheapest(costs, recorded.num_exits)
    if limit < least:
        raise UserError(
            f"budget={shown(budget)} is {limit:.0f} operations per sample, and the cheapest answer, that of "
            f"exit {exit}, takes {least:.0f}; give `budget={least:.0f}` or more, in percent "
            f"`budget='{math.ceil(100 * least / costs.static)}%'`"
        )
    return limit


def _seconds(recorded: ExitLogits, times: PathTimes, latency: object) -> float:
    """The seconds that a latency allows, some exit within them."""
    limit = amounts.seconds(latency, times.static)
    least, exit = cheapest(times, recorded.num_exits)
    if limit < least:
        raise UserError(
            f"latency={shown(latency)} is {_us(limit)} per sample, and the quickest answer, that of exit "
            f"{exit}, takes {_us(least)} here; give more, e.g. `latency='{_us(1.1 * least)}'`"
        )
    return limit


def _on_a_curve(
    recorded: ExitLogits,
    reading: Policy,
    costs: Paths,
    limit: float,
    wanted: str,
    rule: Rule,
    *,
    per_class: bool,
) -> tuple[Policy, dict[str, Any]]:
    """A policy by the published thresholds or by a precision, next below a limit, and what its file notes."""
    if rule == "published":
        found = published_within(recorded, reading, costs, limit)
        if found is not None:
            return found, {}
    else:
        precise = precise_within(recorded, reading, costs, limit, per_class=per_class)
        if precise is not None:
            return precise[0], {"precision": precise[1]}
    curve = "published curve" if rule == "published" else "curve of all precisions"
    raise UserError(f"the {curve} begins above {wanted} on these samples; give more, or `rule='best'`")


def _timed(limit: float, times: PathTimes, batch_size: int) -> dict[str, Any]:
    """What a policy's file notes of a latency."""
    return {"latency": limit, "batch_size": batch_size, "static": times.static}


def _us(seconds: float) -> str:
    return f"{1e6 * seconds:.4g}us"
