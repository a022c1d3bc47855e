"""Coordinate ascent over thresholds: each is set to its very best while the others stand still.

What is best for one threshold is found exactly: the samples that come to its exit are sorted by confidence,
and running sums tell, for every number of them that may leave, how many samples are right then and what all
of them cost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from offramp.exits.calibration._table import Array, Table, Thresholds

__all__ = ["Choice", "ascend", "under_price", "within"]

Choice = Callable[[Array, Array], int]  # right samples and costs, ``[p]`` each -> which of the p is best
PASSES = 20  # at most; nearly all end after two to five


def within(limit: float, *, spend: bool = False) -> Choice:
    """The most right samples at a total cost within a limit, or the lowest cost where none is within.

    Args:
        limit: Of the cost of all samples.
        spend: Of several choices with as many right, take the highest cost within the limit, and so the
            fewest samples that leave early for no reason but chance; or else the lowest.
    """

    def choose(right: Array, cost: Array) -> int:
        fits = cost <= limit
        if not fits.any():
            return int(cost.argmin())
        best = fits & (right == right[fits].max())
        return int(np.where(best, cost, -np.inf).argmax() if spend else np.where(best, cost, np.inf).argmin())

    return choose


def under_price(price: float) -> Choice:
    """The most right samples less the price of their cost."""
    return lambda right, cost: int((right - price * cost).argmax())


def ascend(table: Table, thresholds: Thresholds, choose: Choice) -> Thresholds:
    """Improve thresholds until none alone can be better.

    Args:
        table: The samples.
        thresholds: To begin with.
        choose: What is best.
    """
    thresholds = thresholds.copy()
    for _ in range(PASSES if len(thresholds) else 0):
        before = thresholds.copy()
        _one_pass(table, thresholds, choose)
        if (thresholds == before).all():
            break
    return thresholds


def _one_pass(table: Table, thresholds: Thresholds, choose: Choice) -> None:
    """Set the thresholds of every exit, the last one's first, in place."""
    inner = range(len(thresholds))
    left = np.array([table.leaves(exit, thresholds) for exit in inner])
    gone = np.logical_or.accumulate(left, axis=0)  # at an exit or before
    where = left.argmax(0)
    on = _Outcomes(table.right[-1], np.full(table.samples, table.costs[-1]))
    for exit in reversed(inner):
        come = ~gone[exit - 1] if exit else np.ones(table.samples, dtype=bool)
        early = where[~come]
        outside = (int(table.right[early, (~come).nonzero()[0]].sum()), float(table.costs[early].sum()))
        _set_exit(table, thresholds, exit, come, on, outside, choose)
        leaves = table.leaves(exit, thresholds)
        on = _Outcomes(
            np.where(leaves, table.right[exit], on.right), np.where(leaves, table.costs[exit], on.cost)
        )


class _Outcomes(NamedTuple):
    """What becomes of each sample that goes on behind an exit, ``[N]`` each."""

    right: Array
    cost: Array


def _set_exit(
    table: Table,
    thresholds: Thresholds,
    exit: int,
    come: Array,
    on: _Outcomes,
    outside: tuple[int, float],
    choose: Choice,
) -> None:
    """Set the thresholds of one exit, in place.

    Args:
        table: The samples.
        thresholds: Of all exits.
        exit: Which is set.
        come: Which samples come to it.
        on: What becomes of those that go on from there.
        outside: How many of the others are right, and what they take.
        choose: What is best.
    """
    classes = thresholds.shape[1]
    more_right, more_cost = table.right[exit] - on.right, table.costs[exit] - on.cost
    here = come & table.leaves(exit, thresholds)
    right = outside[0] + on.right[come].sum() + more_right[here].sum()
    cost = outside[1] + on.cost[come].sum() + more_cost[here].sum()
    for group in range(classes):
        mine = come if classes == 1 else come & (table.prediction[exit] == group)
        rows = table.order[exit][mine[table.order[exit]]]
        if not len(rows):
            continue
        confidence, left = table.confidence[exit, rows], here[rows]
        right, cost = right - more_right[rows[left]].sum(), cost - more_cost[rows[left]].sum()
        # p samples may leave where the next has a lower confidence
        places = np.concatenate([[0], (confidence[:-1] != confidence[1:]).nonzero()[0] + 1, [len(rows)]])
        rights = right + np.concatenate([[0], more_right[rows].cumsum()])[places]
        costs = cost + np.concatenate([[0.0], more_cost[rows].cumsum()])[places]
        best = choose(rights, costs)
        right, cost = rights[best], costs[best]
        lowest = -np.inf if classes == 1 else confidence[-1]
        thresholds[exit, group] = _between(confidence, places[best], lowest)


def _between(confidence: Array, leaving: int, lowest: float) -> float:
    """A threshold that so many samples of falling confidence reach, in the middle between two of them."""
    if leaving == 0:
        return np.inf
    if leaving == len(confidence):
        return lowest
    above, below = confidence[leaving - 1], confidence[leaving]
    middle = below + (above - below) / 2
    return float(middle if below < middle else above)  # neighbours among the floats have none
