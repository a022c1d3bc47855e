"""Budgeted batch classification: accuracy on test samples against mean cost, as more of them leave early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from offramp.errors import UserError
from offramp.exits.calibration.published import NOBODY, POINTS, published
from offramp.exits.calibration.reading import Reader
from offramp.exits.calibration.to_cost import to_budget
from offramp.exits.decisions import Paths, decide
from offramp.exits.exit_logits import ExitLogits
from offramp.exits.path_costs import PathCosts
from offramp.exits.policy import Policy

__all__ = ["BudgetCurve", "FittedPolicy", "Point", "budget_curve", "policy_point"]


class Point(NamedTuple):
    """What one way to answer reaches, and what it costs.

    Attributes:
        top1: Share of right answers, in percent.
        flops: Operations per sample as published: the stages up to the exit that it leaves at, and the heads
            of all exits up to there.
        executed: Operations per sample that the router executes: without the heads of exits at which no
            sample can leave.
        shares: The share of the samples that leaves at each of the K exits.
    """

    top1: float
    flops: float
    executed: float
    shares: tuple[float, ...]


class FittedPolicy(NamedTuple):
    """A policy that was fitted on validation samples.

    Attributes:
        policy: The policy.
        val_top1: Share of right answers on the samples that it was fitted on, in percent.
        point: What it reaches on test samples.
    """

    policy: Policy
    val_top1: float
    point: Point


@dataclass(frozen=True)
class BudgetCurve:
    """What a net reaches on test samples at each budget.

    Attributes:
        convention: How operations are counted, a key of
            :data:`~offramp.counting.conventions.CONVENTIONS`.
        published: 40 policies of the published algorithm, for p = 1 ... 40: few operations first.
        best: 40 policies of :func:`offramp.calibrate`, each for the budget that the published one takes on
            the validation samples; or none.
        exits: Each of the K exits by itself, if all samples leave there; what is executed is then a net that
            ends there.
        oracle: Each sample leaves at the first exit that is right; one that no exit gets right runs to the
            end.
        static: The network without inner heads.
    """

    convention: str
    published: tuple[FittedPolicy, ...]
    best: tuple[FittedPolicy, ...]
    exits: tuple[Point, ...]
    oracle: Point
    static: Point


def budget_curve(val: ExitLogits, test: ExitLogits, costs: PathCosts, *, best: bool = False) -> BudgetCurve:
    """Compute the curve of the published algorithm (:mod:`offramp.exits.calibration.published`).

    Args:
        val: Validation samples, which the thresholds are fitted on.
        test: Test samples.
        costs: Of the net whose logits these are.
        best: Fit the best thresholds at each of its budgets too.

    Raises:
        UserError: The logits are of different nets.
    """
    if (val.net, val.num_exits) != (test.net, test.num_exits):
        raise UserError("the validation and the test logits are of different nets; record those of one net")

    def fitted(policy: Policy) -> FittedPolicy:
        return FittedPolicy(policy, 100 * decide(val, policy).accuracy, policy_point(test, policy, costs))

    reader = Reader()
    policies = [published(val, reader.fit(val), p / 20) for p in POINTS]
    budgets = [decide(val, policy, costs).mean_cost for policy in policies] if best else []
    exits = _exits(test, costs)
    return BudgetCurve(
        convention=costs.convention,
        published=tuple(map(fitted, policies)),
        best=tuple(fitted(to_budget(val, reader, costs, budget)) for budget in budgets),
        exits=exits,
        oracle=_oracle(test, costs),
        static=exits[-1]._replace(flops=costs.static, executed=costs.static),
    )


def policy_point(test: ExitLogits, policy: Policy, costs: Paths) -> Point:
    """What a policy reaches.

    Args:
        test: Test samples.
        policy: When they leave.
        costs: Of the net: operations, or seconds (:class:`~offramp.exits.path_times.PathTimes`), which the
            point then has in their place.
    """
    found = decide(test, policy)
    open_exits = [exit for exit in policy.evaluated[:-1] if policy.thresholds[exit - 1] != NOBODY]
    return _point(found.accuracy, found.shares(test.num_exits), [*open_exits, test.num_exits], costs)


def _point(accuracy: float, shares: Sequence[float], evaluated: Sequence[int], costs: Paths) -> Point:
    """A point; ``evaluated`` has the exits that some sample may leave at."""
    with_all_heads = costs.of(range(1, len(shares) + 1))
    flops = sum(share * cost for share, cost in zip(shares, with_all_heads, strict=True))
    paths = zip(evaluated, costs.of(evaluated), strict=True)
    return Point(100 * accuracy, flops, sum(shares[exit - 1] * cost for exit, cost in paths), tuple(shares))


def _exits(test: ExitLogits, costs: PathCosts) -> tuple[Point, ...]:
    accuracies = (test.logits.argmax(-1) == test.labels).double().mean(1)
    shares = torch.eye(test.num_exits, dtype=torch.float64)
    return tuple(
        _point(accuracy, share, [exit], costs)
        for exit, (accuracy, share) in enumerate(zip(accuracies.tolist(), shares.tolist(), strict=True), 1)
    )


def _oracle(test: ExitLogits, costs: PathCosts) -> Point:
    right = test.logits.argmax(-1) == test.labels
    # argmax is the first of equal values
    first = torch.where(right.any(0), right.int().argmax(0), test.num_exits - 1)
    shares = torch.bincount(first, minlength=test.num_exits).double() / len(test)
    every = range(1, test.num_exits + 1)
    return _point(right.any(0).double().mean().item(), shares.tolist(), every, costs)
