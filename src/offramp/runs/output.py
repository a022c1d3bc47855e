"""What one output of a network reaches and costs after training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from offramp.errors import UserError

__all__ = ["Output", "relative_gain"]


@dataclass(frozen=True)
class Output:
    """One output of a network after training.

    Attributes:
        metrics: Metric -> value.
        primary: The metric that stands for the output.
        better: Whether a ``"higher"`` or a ``"lower"`` value of it is better.
        params: Parameters that the output needs.
        flops: Operations that the output needs for one sample; None: unknown.
    """

    metrics: Mapping[str, float]
    primary: str
    better: str
    params: int = 0
    flops: int | None = None

    @property
    def value(self) -> float:
        """The primary metric's."""
        return self.metrics[self.primary]


def relative_gain(now: float, before: float, better: str) -> float:
    """Change of a metric for the better as a part of what it was.

    Raises:
        UserError: It was 0.
    """
    if not before:
        raise UserError(
            f"a metric that was 0 and is {now:g} has no relative change (Delta-m); compare single metrics"
        )
    change = (now - before) / abs(before)
    return change if better == "higher" else -change
