"""What the evaluated exits say about samples, as arrays in which thresholds are looked for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offramp.exits.calibration.published import NOBODY
from offramp.exits.decisions import Paths, readings
from offramp.exits.exit_logits import ExitLogits
from offramp.exits.policy import Policy, Threshold

__all__ = ["Array", "Table", "Thresholds", "tabulate", "with_thresholds"]

Array = NDArray[Any]
Thresholds = Array  # [m - 1, 1], or [m - 1, classes] where each predicted class has its own


@dataclass(frozen=True)
class Table:
    """N samples at m evaluated exits, in order; all samples leave at the last.

    Attributes:
        evaluated: The exits' numbers.
        confidence: ``[m, N]``.
        prediction: The predicted classes, ``[m, N]``.
        right: Whether these are right, 0 or 1, ``[m, N]``.
        costs: What it takes to leave at each exit, float64 ``[m]``.
    """

    evaluated: tuple[int, ...]
    confidence: Array
    prediction: Array
    right: Array
    costs: Array

    @property
    def samples(self) -> int:
        """How many there are (N)."""
        return len(self.confidence[0])

    @cached_property
    def order(self) -> Array:
        """The samples by falling confidence at each exit, ``[m, N]``."""
        return (-self.confidence).argsort(axis=1, kind="stable")

    def leaves(self, exit: int, thresholds: Thresholds) -> Array:
        """Which samples would leave at an exit, if they came there: bool ``[N]``.

        Args:
            exit: Its place among the evaluated ones, from 0.
            thresholds: Of all of them.
        """
        if exit == len(self.evaluated) - 1:
            return np.ones(self.samples, dtype=bool)
        mine = thresholds[exit]
        return np.asarray(
            self.confidence[exit] >= (mine[0] if len(mine) == 1 else mine[self.prediction[exit]])
        )

    def taken(self, thresholds: Thresholds) -> Array:
        """The place of the exit at which each sample leaves, ``[N]``."""
        at = np.full(self.samples, len(self.evaluated) - 1)
        for exit in reversed(range(len(self.evaluated) - 1)):
            at[self.leaves(exit, thresholds)] = exit
        return at

    def outcome(self, thresholds: Thresholds) -> tuple[int, float]:
        """How many samples are right, and what all of them take together."""
        at = self.taken(thresholds)
        return int(self.right[at, np.arange(self.samples)].sum()), float(self.costs[at].sum())


def tabulate(recorded: ExitLogits, policy: Policy, evaluated: Collection[int], costs: Paths) -> Table:
    """Read the exits of recorded samples.

    Args:
        recorded: The samples.
        policy: Says how confidences are read.
        evaluated: Which exits, the last among them.
        costs: What it takes to leave at each.
    """
    open_ = tuple(NOBODY if k in evaluated else None for k in range(1, recorded.num_exits))
    policy = replace(policy, thresholds=open_)
    found = [reading for _, reading in readings(recorded, policy)]
    prediction = np.stack([reading.prediction.numpy() for reading in found])
    return Table(
        policy.evaluated,
        np.stack([reading.confidence.numpy() for reading in found]),
        prediction,
        (prediction == recorded.labels.numpy()).astype(np.int64),
        np.array(costs.of(policy.evaluated), dtype=np.float64),
    )


def with_thresholds(policy: Policy, table: Table, thresholds: Thresholds) -> Policy:
    """The policy that evaluates the exits of a table, with these thresholds."""
    rows: list[Threshold] = [None] * (policy.num_exits - 1)
    for exit, row in zip(table.evaluated[:-1], thresholds.clip(-NOBODY, NOBODY).tolist(), strict=True):
        rows[exit - 1] = row[0] if len(row) == 1 else tuple(row)
    return replace(policy, thresholds=rows)
