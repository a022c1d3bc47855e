"""Whether samples that leave are taken out of the batch at once, or run along until more of them leave."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from offramp.bundles._parts import Value
from offramp.checks import is_number
from offramp.exits.policy import Policy

__all__ = ["compacted_exits"]

# Multiply-adds of a convolution that take about as long as moving one number of a feature map out of its
# batch: from the layout of convolutions to that of rows, into a copy, and back. On one machine
# benchmarks/bundle_kernels.py finds 139; a low estimate takes samples out rather too often.
OPERATIONS = 100


def compacted_exits(
    policy: Policy, costs: Sequence[int | None], carries: Sequence[Sequence[Value]]
) -> list[bool]:
    """At which of the evaluated exits but the last the samples that leave are taken out of the batch.

    Where few leave and the feature map is large, the copy of those who stay costs more than the few would
    cost up to the next exit. How many leave is what the policy notes of the samples that it was fitted on;
    without such a note they are always taken out.

    Args:
        policy: The policy.
        costs: Operations of a sample that leaves at each evaluated exit; None where unknown.
        carries: What goes on from each of these exits.
    """
    shares = _shares_of(policy)
    if shares is None:
        return [True] * (len(costs) - 1)
    leaving = [shares[exit - 1] for exit in policy.evaluated]
    rows, found = 1.0, []  # of the batch's: those that are still computed
    for place, values in enumerate(carries[:-1]):
        cost, following = costs[place], costs[place + 1]
        staying = sum(leaving[place + 1 :])
        numbers = _numbers_of(values)
        pays = True
        if cost is not None and following is not None and numbers is not None:
            pays = (rows - staying) * (following - cost) >= rows * numbers * OPERATIONS
        found.append(pays)
        rows = staying if pays else rows
    return found


def _shares_of(policy: Policy) -> Sequence[float] | None:
    """What share of the samples that a policy was fitted on left at each exit; None: it does not say."""
    achieved = policy.calibration.get("achieved")
    shares = achieved.get("exits") if isinstance(achieved, Mapping) else None
    if not isinstance(shares, Sequence) or len(shares) != policy.num_exits or not all(map(is_number, shares)):
        return None
    return shares


def _numbers_of(values: Sequence[Value]) -> int | None:
    """How many numbers of a sample these are; None: axes of any size are among them."""
    total = 0
    for shape in (value.shape[1:] for value in values if value.batched):
        sizes = [size for size in shape if isinstance(size, int)]
        if len(sizes) < len(shape):
            return None
        total += math.prod(sizes)
    return total
