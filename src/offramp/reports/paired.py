"""Means over seeds, and differences between two methods over the seeds that both have run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from offramp.reports._student_t import two_sided_quantile
from offramp.text_table import signed

__all__ = ["ENOUGH_SEEDS", "Difference", "Spread", "paired_difference", "spread"]

# Two equal differences have an interval of no width, though two seeds of equal luck are quite likely.
ENOUGH_SEEDS = 3


@dataclass(frozen=True)
class Spread:
    """A mean over ``n`` seeds and the sample standard deviation (n - 1), which one seed does not have."""

    mean: float
    std: float | None
    n: int

    def text(self, decimals: int = 2) -> str:
        """Mean, and the deviation where there is one."""
        mean = f"{self.mean:.{decimals}f}"
        return mean if self.std is None else f"{mean} ± {self.std:.{decimals}f}"

    def __str__(self) -> str:
        return self.text()


@dataclass(frozen=True)
class Difference:
    """A mean paired difference over ``n`` seeds and its 95 % interval, which one seed does not have."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def decided(self) -> bool:
        """Whether there are :data:`ENOUGH_SEEDS` and the interval leaves out 0."""
        if self.n < ENOUGH_SEEDS or self.low is None or self.high is None:
            return False
        return self.low > 0 or self.high < 0

    @property
    def negated(self) -> Difference:
        """The baseline minus the values."""
        if self.low is None or self.high is None:
            return Difference(-self.mean, None, None, self.n)
        return Difference(-self.mean, -self.high, -self.low, self.n)

    def text(self, decimals: int = 2) -> str:
        """Mean and half of the interval, with a star if it is decided; else a blank keeps the columns."""
        mean = signed(self.mean, decimals)
        if self.low is None:
            return mean
        return f"{mean} ± {self.mean - self.low:.{decimals}f}{'*' if self.decided else ' '}"

    def __str__(self) -> str:
        return self.text()


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation of at least one value."""
    return Spread(
        statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values)
    )


def paired_difference(values: Sequence[float], baseline: Sequence[float]) -> Difference:
    """The mean of ``values - baseline``, pair by pair, with its 95 % t interval.

    What a seed does to both methods (initialisation, order of the data) cancels in the pair, so the
    interval is narrower than that of two independent means. It is not corrected for multiple comparisons.

    Args:
        values: One number per seed.
        baseline: The other method's number for the same seeds, in the same order.
    """
    pairs = [a - b for a, b in zip(values, baseline, strict=True)]
    mean, n = statistics.fmean(pairs), len(pairs)
    if n < 2:
        return Difference(mean, None, None, n)
    half = two_sided_quantile(0.95, n - 1) * statistics.stdev(pairs) / math.sqrt(n)
    return Difference(mean, mean - half, mean + half, n)
