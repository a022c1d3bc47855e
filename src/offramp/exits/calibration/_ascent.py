"""Coordinate ascent over thresholds: each is set to its very best while the others stand still.

What is best for one threshold is found exactly: the samples that come to its exit are sorted by confidence,
and running sums tell, for every number of them that may leave, how many samples are right then and what all
of them cost.
"""

from __future__ import annotations

from collections.abc import Callable

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
    for _ in range(PASSES):
        before = thresholds.copy()
        for exit in reversed(range(len(thresholds))):
            _improve(table, thresholds, exit, choose)
        if (thresholds == before).all():
            break
    return thresholds


def _improve(table: Table, thresholds: Thresholds, exit: int, choose: Choice) -> None:
    """Set the thresholds of one exit, in place."""
    come = np.ones(table.samples, dtype=bool)
    for earlier in range(exit):
        come &= ~table.leaves(earlier, thresholds)
    passed_on = thresholds.copy()
    passed_on[exit] = np.inf
    at = table.taken(passed_on)  # where each sample leaves that does not leave here
    right_on, cost_on = table.right[at, np.arange(table.samples)], table.costs[at]
    more_right, more_cost = table.right[exit] - right_on, table.costs[exit] - cost_on
    classes = thresholds.shape[1]
    here = come & table.leaves(exit, thresholds)
    right, cost = right_on.sum() + more_right[here].sum(), cost_on.sum() + more_cost[here].sum()
    for group in range(classes):
        mine = come if classes == 1 else come & (table.prediction[exit] == group)
        rows = table.order[exit][mine[table.order[exit]]]
        if not len(rows):
            continue
        confidence = table.confidence[exit, rows]
        left = here[rows]
        right, cost = right - more_right[rows[left]].sum(), cost - more_cost[rows[left]].sum()
        # p samples may leave where the next has a lower confidence
        places = np.concatenate([[0], (confidence[:-1] != confidence[1:]).nonzero()[0] + 1, [len(rows)]])
        rights = right + np.concatenate([[0], more_right[rows].cumsum()])[places]
        costs = cost + np.concatenate([[0.0], more_cost[rows].cumsum()])[places]
        best = choose(rights, costs)
        right, cost = rights[best], costs[best]
        thresholds[exit, group] = _between(
            confidence, places[best], -np.inf if classes == 1 else confidence[-1]
        )


def _between(confidence: Array, leaving: int, lowest: float) -> float:
    """A threshold that so many samples of falling confidence reach, in the middle between two of them."""
    if leaving == 0:
        return np.inf
    if leaving == len(confidence):
        return lowest
    above, below = confidence[leaving - 1], confidence[leaving]
    middle = below + (above - below) / 2
    return float(middle if below < middle else above)  # neighbours among the floats have none
