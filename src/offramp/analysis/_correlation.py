"""Standard scores and Pearson's correlation of a few numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

__all__ = ["pearson", "standardised"]


def standardised(values: Sequence[float]) -> tuple[float, ...]:
    """Values with mean 0 and standard deviation 1 (over n); all 0 where they are constant."""
    if not values:
        return ()
    mean = fmean(values)
    deviation = math.sqrt(fmean((v - mean) ** 2 for v in values))
    return tuple((v - mean) / deviation if deviation > 0 else 0.0 for v in values)


def pearson(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Pearson's correlation; None for fewer than three pairs or where one side is constant."""
    if len(x) < 3 or len(set(x)) < 2 or len(set(y)) < 2:
        return None
    return fmean(a * b for a, b in zip(standardised(x), standardised(y), strict=True))
