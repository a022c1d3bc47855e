"""The gate of an exit: which samples leave there."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from offramp.exits.confidence import Reading, SingleReading
from offramp.exits.leaving import leaves
from offramp.exits.policy import Policy

__all__ = ["Gate"]


class Gate:
    """Reads the logits of one exit by a policy.

    Args:
        policy: The policy.
        exit: The exit's number, from 1; all samples leave at the last.
        device: Where the logits are.
    """

    def __init__(self, policy: Policy, exit: int, device: torch.device | str = "cpu") -> None:
        self.exit, self.last = exit, exit == policy.num_exits
        self._rule = policy.rule
        self._temperature = policy.temperatures[exit - 1]
        threshold = None if self.last else policy.thresholds[exit - 1]
        self._threshold: float | Tensor | None = (
            torch.tensor(threshold, dtype=torch.float64, device=device)
            if isinstance(threshold, tuple)
            else threshold
        )

    def read(self, logits: Tensor, state: Tensor | None) -> Reading:
        """Confidences and predictions of n samples.

        Args:
            logits: ``[n, classes]``.
            state: What the evaluated exit before has left for them.
        """
        if self._temperature != 1:
            logits = logits / self._temperature
        return self._rule.read(self.exit, logits, state)

    def decide_single(
        self, logits: Tensor, state: Tensor | None, own: float | None = None
    ) -> tuple[SingleReading, bool]:
        """Confidence and prediction of one sample, and whether it leaves.

        Args:
            logits: ``[1, classes]``.
            state: What the evaluated exit before has left for it.
            own: A threshold of its own; None: the policy's.
        """
        if self._temperature != 1:
            logits = logits / self._temperature
        reading = self._rule.read_single(self.exit, logits, state)
        threshold = self._threshold if own is None else own
        if threshold is None:
            return reading, self.last
        if isinstance(threshold, Tensor):
            threshold = threshold[reading.prediction].item()
        return reading, reading.confidence >= _rounded(threshold, reading.dtype)

    def leaves(self, reading: Reading) -> Tensor:
        """Which samples leave: bool ``[n]``."""
        threshold = self._threshold
        if threshold is None:
            return torch.full_like(reading.prediction, self.last, dtype=torch.bool)
        if isinstance(threshold, Tensor):  # as precise as the confidence, which a number is for torch too
            threshold = threshold.to(reading.confidence.dtype)
        gone: Tensor = leaves(reading.confidence, reading.prediction, threshold)
        return gone

    def leaving(self, reading: Reading) -> list[bool]:
        """Which samples leave, as a list of n truth values."""
        if self.last:
            return [True] * len(reading.prediction)
        if not isinstance(self._threshold, float):
            return self.leaves(reading).tolist()
        threshold = _rounded(self._threshold, reading.confidence.dtype)
        return [confidence >= threshold for confidence in reading.confidence.tolist()]


@lru_cache(maxsize=1024)  # a request may bring any
def _rounded(threshold: float, dtype: torch.dtype) -> float:
    """The number that torch compares Tensors of this dtype with."""
    return torch.tensor(threshold, dtype=dtype).item()
