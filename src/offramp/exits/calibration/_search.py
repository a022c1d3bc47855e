"""Which exits are evaluated, and with which thresholds, so that most samples are right within a mean cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np

from offramp.exits.calibration._ascent import ascend, under_price, within
from offramp.exits.calibration._table import Table, Thresholds

__all__ = ["Found", "best_of", "best_thresholds", "pruned", "sharpened", "weighed"]

PRICES = 12  # halvings of the range of prices
RANGE = 1e4  # of a price, on both sides of 1 sample per cost of the static network


class Found(NamedTuple):
    """Thresholds, with what they come to on the samples.

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

    def better_than(self, other: Found, limit: float) -> bool:
        """Whether it makes more samples right within the limit, or costs less where one is not within it."""
        if self.cost > limit or other.cost > limit:
            return self.cost < other.cost
        return self.right > other.right


def best_of(found: Sequence[Found], limit: float) -> Found:
    """The best of several."""
    return reduce(lambda a, b: b if b.better_than(a, limit) else a, found)


def pruned(
    found: Found, tables: Callable[[tuple[int, ...]], Table], limit: float, *, must_pay: bool = False
) -> Found:
    """Leave out exits without which as many samples or more are right within the limit, one after the other.

    Args:
        found: To begin with.
        tables: Tabulates evaluated exits.
        limit: Of the cost of all samples together.
        must_pay: Leave those out too whose heads cost more than the samples save that leave there.
    """
    while len(found.thresholds):
        as_good, useless = [], []
        for place, exit in enumerate(found.table.evaluated[:-1]):
            table = tables(tuple(k for k in found.table.evaluated if k != exit))
            start = np.delete(found.thresholds, place, axis=0)
            without = best_thresholds(table, limit, start)
            if not found.better_than(without, limit):
                as_good.append(without)
            elif must_pay and table.outcome(start)[1] <= found.cost:
                useless.append(without)
        if not as_good and not useless:
            break
        found = best_of(as_good or useless, limit)
    return found


def sharpened(found: Found, limit: float, *, classes: int = 1) -> Found:
    """The same exits, with thresholds from which no single one can be improved within the limit.

    Args:
        found: To begin with.
        limit: Of the cost of all samples together.
        classes: How many; 1: each exit has one threshold for all.
    """
    thresholds = np.broadcast_to(found.thresholds, (len(found.thresholds), classes))
    for spend in (False, True):
        thresholds = ascend(found.table, thresholds, within(limit, spend=spend))
    return weighed(found.table, thresholds)


def weighed(table: Table, thresholds: Thresholds) -> Found:
    """Thresholds, with what they come to."""
    return Found(table, thresholds, *table.outcome(thresholds))


def best_thresholds(table: Table, limit: float, start: Thresholds | None = None) -> Found:
    """The best thresholds found: by ascents at several prices of cost, then within the limit.

    Args:
        table: The evaluated exits.
        limit: Of the cost of all samples together.
        start: To begin with; None: nobody leaves early.
    """
    if start is None:
        start = np.full((len(table.evaluated) - 1, 1), np.inf)
    found = [start]
    low, high = np.log(1 / (RANGE * table.costs[-1])), np.log(RANGE / table.costs[-1])
    thresholds = start
    for _ in range(PRICES if len(start) else 0):
        price = (low + high) / 2
        thresholds = ascend(table, thresholds, under_price(np.exp(price)))
        if table.outcome(thresholds)[1] > limit:
            low = price
        else:
            high = price
            found.append(thresholds)
    return best_of([sharpened(weighed(table, each), limit) for each in found[-2:]], limit)
