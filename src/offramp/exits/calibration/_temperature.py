"""Temperatures: what an exit's logits are divided by, so that its probabilities are as likely as can be."""

from __future__ import annotations

import torch
from torch import Tensor

from offramp.exits.exit_logits import ExitLogits

__all__ = ["fit_temperatures"]

COLDEST, HOTTEST = 0.01, 100.0  # bounds, which logits reach whose every prediction is right, or none
STEPS = 100  # at most; Newton's method takes five to ten


def fit_temperatures(recorded: ExitLogits) -> tuple[float, ...]:
    """The temperature of each exit that minimises the negative log-likelihood (Guo et al., ICML 2017).

    Returns:
        K numbers.
    """
    return tuple(_fit(logits.double(), recorded.labels) for logits in recorded.logits)


def _fit(logits: Tensor, labels: Tensor) -> float:
    """By Newton's method on b = 1/T, in which the loss is convex, within bounds that close in on it."""
    own = logits.gather(1, labels[:, None])[:, 0]
    low, high = 1 / HOTTEST, 1 / COLDEST
    b = 1.0
    for _ in range(STEPS):
        probabilities = (b * logits).softmax(1)
        mean = (probabilities * logits).sum(1)
        slope = (mean - own).mean().item()
        curvature = ((probabilities * logits.square()).sum(1) - mean.square()).mean().item()
        low, high = (low, b) if slope > 0 else (b, high)
        step = b - slope / curvature if curvature > 0 else torch.inf
        after = step if low < step < high else (low * high) ** 0.5
        if abs(after - b) <= 1e-12 * b:
            break
        b = after
    return 1 / b
