"""Student's t quantile for whole degrees of freedom (Abramowitz & Stegun, 1964, 26.7.3 and 26.7.4)."""

from __future__ import annotations

import math

__all__ = ["two_sided_quantile"]


def two_sided_quantile(level: float, df: int) -> float:
    """The t with P(|T| < t) = ``level`` for T of Student's distribution with ``df`` degrees of freedom.

    Args:
        level: Between 0 and 1, e.g. 0.95.
        df: At least 1.
    """
    low, high = 0.0, math.pi / 2  # the angle atan(t / sqrt(df)), in which P is a finite sum, and monotone
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _probability(middle, df) < level else (low, middle)
    return math.sqrt(df) * math.tan(low)


def _probability(angle: float, df: int) -> float:
    """P(|T| < sqrt(df) tan(angle))."""
    cos, sin = math.cos(angle), math.sin(angle)
    odd = df % 2
    power, total = (cos, 0.0) if odd else (1.0, 0.0)
    for n in range(1 + odd, df, 2):  # the exponent of cos is n - 1
        total += power
        power *= cos * cos * n / (n + 1)
    return 2 / math.pi * (angle + sin * total) if odd else sin * total
