"""Delta-m: how much worse metrics of several tasks are than a baseline's, as one number."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from statistics import fmean
from typing import TypeVar

from offramp.errors import UserError

__all__ = ["delta_m", "relative_gain"]

K = TypeVar("K", bound=Hashable)


def delta_m(values: Mapping[K, float], baseline: Mapping[K, float], better: Mapping[K, str]) -> float:
    """Mean relative change for the worse, in percent: below 0 is a gain.

    (100 / M) sum_j (-1)^l_j (V_j - B_j) / B_j over M metrics, with l_j = 1 where a higher one is better and 0
    where a lower one is (DR-MGF, arXiv:2305.19844, Eq 12, with the sign of its tables). On NYUv2 it is the
    mean over the nine metrics of the three tasks, not over the tasks.

    Args:
        values: V, by metric.
        baseline: B: there, those of one network per task.
        better: Whether a ``"higher"`` or a ``"lower"`` one is better.

    Raises:
        UserError: A metric of the baseline is 0; the line names it.
    """
    for key, value in values.items():
        if not baseline[key]:
            name = " ".join(key) if isinstance(key, tuple) else key
            raise UserError(
                f"{name} is {value:g} and 0 in the baseline: it has no relative change (Delta-m); compare "
                "single metrics"
            )
    gain = fmean(relative_gain(value, baseline[key], better[key]) for key, value in values.items())
    return 0.0 - 100 * gain  # of no gain 0, not -0


def relative_gain(now: float, before: float, better: str) -> float:
    """Change of a metric for the better as a part of what it was, which was not 0."""
    change = (now - before) / abs(before)
    return change if better == "higher" else -change
