"""Which exits are evaluated, and with which thresholds, so that most samples are right within a mean cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np

from offramp.exits.calibration._ascent import ascend, under_price, within
from offramp.exits.calibration._table import Table, Thresholds

__all__ = ["Candidate", "best_of", "best_thresholds", "pruned", "sharpened"]

PRICES = 12  # halvings of the range of prices
RANGE = 1e4  # of a price, on both sides of 1 sample per cost of the static network


class Candidate(NamedTuple):
    """Thresholds, with how many samples they make right and what these cost.

    Attributes:
        table: The evaluated exits.
        thresholds: Of all but the last.
        right: How many samples are right.
        cost: What all of them take together.
    """

    table: Table
    thresholds: Thresholds
    right: int
    cost: float

    @classmethod
    def of(cls, table: Table, thresholds: Thresholds) -> Candidate:
        """Try thresholds on the samples of a table."""
        return cls(table, thresholds, *table.outcome(thresholds))

    def better_than(self, other: Candidate, limit: float) -> bool:
        """Whether it makes more samples right within the limit, or costs less where one is not within it."""
        if self.cost > limit or other.cost > limit:
            return self.cost < other.cost
        return self.right > other.right


def best_of(candidates: Sequence[Candidate], limit: float) -> Candidate:
    """The candidate that makes most samples right within a limit of their cost together."""
    return reduce(lambda a, b: b if b.better_than(a, limit) else a, candidates)


def pruned(
    candidate: Candidate, tables: Callable[[tuple[int, ...]], Table], limit: float, *, must_pay: bool = False
) -> Candidate:
    """Leave out exits, one after the other, without which as many samples are right within the limit.

    Args:
        candidate: To begin with.
        tables: Tabulates evaluated exits.
        limit: Of the cost of all samples together.
        must_pay: Leave those out too whose heads cost more than the samples save that leave there.
    """
    while len(candidate.thresholds):
        as_good, useless = [], []
        for place, exit in enumerate(candidate.table.evaluated[:-1]):
            table = tables(tuple(k for k in candidate.table.evaluated if k != exit))
            start = np.delete(candidate.thresholds, place, axis=0)
            without = best_thresholds(table, limit, start)
            if not candidate.better_than(without, limit):
                as_good.append(without)
            elif must_pay and table.outcome(start)[1] <= candidate.cost:
                useless.append(without)
        if not as_good and not useless:
            break
        candidate = best_of(as_good or useless, limit)
    return candidate


def sharpened(candidate: Candidate, limit: float, *, classes: int = 1) -> Candidate:
    """Improve the thresholds of a candidate, one at a time, until none can be improved within the limit.

    Args:
        candidate: To begin with.
        limit: Of the cost of all samples together.
        classes: How many; 1: each exit has one threshold for all.
    """
    thresholds = np.broadcast_to(candidate.thresholds, (len(candidate.thresholds), classes))
    for spend in (False, True):
        thresholds = ascend(candidate.table, thresholds, within(limit, spend=spend))
    return Candidate.of(candidate.table, thresholds)


def best_thresholds(table: Table, limit: float, start: Thresholds | None = None) -> Candidate:
    """Look for the best thresholds: by ascents at several prices of cost, then within the limit.

    Args:
        table: The evaluated exits.
        limit: Of the cost of all samples together.
        start: To begin with; None: nobody leaves early.
    """
    if start is None:
        start = np.full((len(table.evaluated) - 1, 1), np.inf)
    starts = [start]
    low, high = np.log(1 / (RANGE * table.costs[-1])), np.log(RANGE / table.costs[-1])
    thresholds = start
    for _ in range(PRICES if len(start) else 0):
        price = (low + high) / 2
        thresholds = ascend(table, thresholds, under_price(np.exp(price)))
        if table.outcome(thresholds)[1] > limit:
            low = price
        else:
            high = price
            starts.append(thresholds)
    return best_of([sharpened(Candidate.of(table, each), limit) for each in starts[-2:]], limit)
