"""Calibration to a mean cost: the published thresholds, or the best that a search finds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch

from offramp.exits.calibration._precision import PRECISIONS, precise_thresholds
from offramp.exits.calibration._search import Candidate, best_of, best_thresholds, pruned, sharpened
from offramp.exits.calibration._table import Table, tabulate, with_thresholds
from offramp.exits.calibration.published import POINTS, planned, published_thresholds
from offramp.exits.decisions import Paths
from offramp.exits.exit_logits import ExitLogits
from offramp.exits.policy import Policy

__all__ = ["best", "cheapest", "precise_within", "published_within"]

ROUNDING = 1e-9  # of a sum of costs


def cheapest(costs: Paths, num_exits: int) -> tuple[float, int]:
    """What the cheapest answer takes, and the number of the exit that gives it."""
    return min((costs.of({k, num_exits})[0], k) for k in range(1, num_exits + 1))


def published_within(recorded: ExitLogits, reading: Policy, costs: Paths, limit: float) -> Policy | None:
    """The point of the published curve that costs most within a limit; None if there is none.

    Args:
        recorded: The samples.
        reading: Says how confidences are read.
        costs: What it takes to leave at each exit.
        limit: Of the mean cost of a sample.
    """
    work = _Work(recorded, reading, costs, limit)
    candidate = max(work.published(), key=lambda point: point.cost, default=None)
    return None if candidate is None else work.policy(candidate)


def precise_within(
    recorded: ExitLogits, reading: Policy, costs: Paths, limit: float, *, per_class: bool = False
) -> tuple[Policy, float] | None:
    """The policy of the precision at which those that leave cost most within a limit, and that precision.

    Args:
        recorded: The samples.
        reading: Says how confidences are read.
        costs: What it takes to leave at each exit.
        limit: Of the mean cost of a sample.
        per_class: Whether each predicted class has a threshold of its own.

    Returns:
        None if none of :data:`PRECISIONS` keeps to the limit.
    """
    work = _Work(recorded, reading, costs, limit)
    table, classes = work.tables(work.every), recorded.classes if per_class else 1
    tried = [
        (Candidate.of(table, precise_thresholds(table, precision, classes=classes)), float(precision))
        for precision in PRECISIONS
    ]
    found = max((each for each in tried if each[0].cost <= work.limit), key=lambda e: e[0].cost, default=None)
    return None if found is None else (work.policy(found[0]), found[1])


def best(
    recorded: ExitLogits,
    reading: Policy,
    costs: Paths,
    limit: float,
    *,
    per_class: bool = False,
    must_pay: bool = False,
) -> Policy:
    """The policy by which most samples are right at a mean cost within a limit.

    On these samples it is never less right than a point of the published curve within the limit, unless exits
    are left out that do not pay.

    Args:
        recorded: The samples.
        reading: Says how confidences are read.
        costs: What it takes to leave at each exit.
        limit: Of the mean cost of a sample; some exit can be reached within it.
        per_class: Whether each predicted class has a threshold of its own.
        must_pay: Whether those exits alone may be left that save more than their heads cost.
    """
    work = _Work(recorded, reading, costs, limit)
    candidate = best_thresholds(work.tables(work.every), work.limit)
    rivals = [*work.published()]
    if rivals:
        rival = sharpened(best_of(rivals, work.limit), work.limit)
        candidate = best_of([candidate, rival], work.limit)
    candidate = pruned(candidate, work.tables, work.limit, must_pay=must_pay)
    return work.finished(candidate, per_class=per_class)


class _Work:
    """What the searches share: tables of evaluated exits, each made once, and the limit of all samples."""

    def __init__(self, recorded: ExitLogits, reading: Policy, costs: Paths, limit: float) -> None:
        self.recorded, self.reading, self.costs = recorded, reading, costs
        self.every = tuple(range(1, recorded.num_exits + 1))
        self.limit = limit * len(recorded) * (1 + ROUNDING)

        @cache
        def tables(evaluated: tuple[int, ...]) -> Table:
            return tabulate(recorded, reading, evaluated, costs)

        self.tables = tables

    def published(self) -> Iterator[Candidate]:
        """The points of the published curve within the limit."""
        table = self.tables(self.every)
        confidences = [torch.from_numpy(row) for row in table.confidence[:-1]]
        for p in POINTS:
            counts = planned(table.samples, len(self.every), p / 20)
            thresholds = published_thresholds(confidences, counts[:-1])
            point = Candidate.of(table, np.array(thresholds)[:, None])
            if point.cost <= self.limit:
                yield point

    def finished(self, candidate: Candidate, *, per_class: bool) -> Policy:
        """The policy of a candidate, with thresholds per class if they are asked for.

        Where nothing is within the limit, all leave at the exit whose answer is cheapest.
        """
        if candidate.cost > self.limit:
            _, exit = cheapest(self.costs, len(self.every))
            candidate = Candidate.of(self.tables((exit, len(self.every))), np.full((1, 1), -np.inf))
        if per_class and len(candidate.thresholds):
            candidate = sharpened(candidate, self.limit, classes=self.recorded.classes)
        return self.policy(candidate)

    def policy(self, candidate: Candidate) -> Policy:
        """The policy of a candidate as it is."""
        return with_thresholds(self.reading, candidate.table, candidate.thresholds)
