"""What one output of a network reaches and costs after training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from offramp.tasks.outputs import plain

__all__ = ["Output"]


@dataclass(frozen=True)
class Output:
    """One output of a network after training.

    Attributes:
        metrics: Metric -> value.
        primary: The metric that stands for the output.
        better: Whether a ``"higher"`` or a ``"lower"`` value of it is better.
        params: Parameters that the output needs.
        flops: Operations that the output needs for one sample; None: unknown.
        compared: The metrics that Delta-m goes over -> whether a ``"higher"`` or a ``"lower"`` one is better;
            by default the primary one.
    """

    metrics: Mapping[str, float]
    primary: str
    better: str
    params: int = 0
    flops: int | None = None
    compared: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.compared:
            object.__setattr__(self, "compared", {self.primary: self.better})

    def direction(self, metric: str) -> str:
        """Whether a ``"higher"`` or a ``"lower"`` value of a metric is better; empty where that is not known.

        A metric that is averaged in another way has the direction of its plain name.
        """
        known = {self.primary: self.better, **self.compared}
        return known.get(metric, known.get(plain(metric), ""))

    @property
    def value(self) -> float:
        """The primary metric's."""
        return self.metrics[self.primary]
