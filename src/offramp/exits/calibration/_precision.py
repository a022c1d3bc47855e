"""Thresholds by precision: of those that leave at an exit, a given share is right.

Exit after exit, on the samples that come to it and no others, as CalexNet has it for each predicted class
(Aperstein and Apartsin, "CalexNet: Soft Cascade-Aligned Training and Calibration for Lightweight Early-Exit
Branches", Electronics 2026, arXiv:2509.08318): what earlier exits let go are the easy samples, without which
an exit is less often right at the same confidence.
"""

from __future__ import annotations

import numpy as np

from offramp.exits.calibration._table import Array, Table, Thresholds

__all__ = ["PRECISIONS", "precise_thresholds"]

PRECISIONS = np.arange(200, -1, -1) / 200  # those that are tried


def precise_thresholds(table: Table, precision: float, *, classes: int = 1) -> Thresholds:
    """The lowest thresholds at which those that leave are right often enough.

    At each exit, of the samples that have not left before and whose predicted class it is, as many leave as
    can: those of the highest confidences, up to one below which the share of right ones among them falls
    short. The lowest of their confidences is the threshold.

    Args:
        table: The samples.
        precision: The least share of right ones, from 0 to 1.
        classes: How many; 1: each exit has one threshold for all.

    Returns:
        Infinite where no sample may leave.
    """
    thresholds = np.full((len(table.evaluated) - 1, classes), np.inf)
    stay = np.ones(table.samples, dtype=bool)
    for exit, row in enumerate(thresholds):
        rows = table.order[exit][stay[table.order[exit]]]
        group = table.prediction[exit, rows] if classes > 1 else np.zeros(len(rows), dtype=np.int64)
        by_group = group.argsort(kind="stable")
        _set(row, table.confidence[exit], table.right[exit], rows[by_group], group[by_group], precision)
        stay &= ~table.leaves(exit, thresholds)
    return thresholds


def _set(row: Array, confidence: Array, right: Array, rows: Array, group: Array, precision: float) -> None:
    """Set the thresholds of one exit, in place.

    Args:
        row: The thresholds, one for each group.
        confidence: Of all samples, ``[N]``.
        right: Whether they are right, ``[N]``.
        rows: The samples that come to the exit, group by group, by falling confidence.
        group: The group of each of these.
        precision: The least share of right ones.
    """
    sizes = np.bincount(group, minlength=len(row))
    begins = np.repeat(sizes.cumsum() - sizes, sizes)  # where the group of each sample begins
    hits = np.concatenate([[0], right[rows].cumsum()])
    place = np.arange(len(rows))
    share = (hits[1:] - hits[begins]) / (place + 1 - begins)
    # who is as sure as another one leaves with it
    is_last = np.ones(len(rows), dtype=bool)
    is_last[:-1] = (group[1:] != group[:-1]) | (confidence[rows[1:]] != confidence[rows[:-1]])
    fits = is_last & (share >= precision)
    row[group[fits]] = confidence[rows[fits]]  # the last of a group has the lowest confidence
