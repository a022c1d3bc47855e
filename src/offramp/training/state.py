"""Where a run stands between two steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["State"]


@dataclass
class State:
    """Everything that moves during a run, but for weights, optimiser and random numbers.

    Attributes:
        loss_sum: Sum of this epoch's batch losses, exit by exit: float32 ``[K]``.
        loss_count: How many of them were finite: float32 ``[K]``.
        epoch: Whole epochs done.
        step: Steps done in this epoch.
        seconds: Time spent on this epoch's steps.
        rows: The lines of metrics.csv so far.
    """

    loss_sum: Tensor
    loss_count: Tensor
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def start(cls, exits: int, device: torch.device) -> State:
        """Before the first step."""
        return cls(torch.zeros(exits, device=device), torch.zeros(exits, device=device))

    def add(self, losses: Tensor) -> None:
        """Count the K losses of one more step; a step that loss scaling skipped has none worth counting."""
        finite = losses.isfinite()
        self.loss_sum += torch.where(finite, losses, 0)
        self.loss_count += finite
        self.step += 1

    def mean_losses(self) -> list[float]:
        """This epoch's mean loss of every exit so far."""
        return (self.loss_sum / self.loss_count).tolist()

    def next_epoch(self, row: Mapping[str, float]) -> None:
        """Close an epoch with its line of metrics.csv."""
        self.rows.append(dict(row))
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self.loss_sum.zero_()
        self.loss_count.zero_()

    def to_dict(self) -> dict[str, Any]:
        """Plain values and tensors; ``State(**values)`` takes them back."""
        return dict(vars(self))
