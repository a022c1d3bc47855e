"""Sees a loss that is no longer a number, without waiting for the device at every step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Watch", "check_finite"]

# Loss scaling starts at 2^16 and is halved after each overflow: after 20 in a row the scale is not to blame.
OVERFLOWS = 20


class Watch:
    """Per exit, the first step at which the loss was not finite (under loss scaling: the 20th in a row).

    Args:
        exits: How many losses there are.
        loss_scaling: Whether an overflow now and then is normal, because the scaler skips that step.
        device: Where the losses are.
    """

    def __init__(self, exits: int, *, loss_scaling: bool, device: torch.device) -> None:
        self.patience = OVERFLOWS if loss_scaling else 1
        self.streak = torch.zeros(exits, dtype=torch.int64, device=device)
        self.since = torch.full((exits,), -1, dtype=torch.int64, device=device)

    def see(self, losses: Tensor, step: int) -> None:
        """Note the K losses of a step."""
        self.streak = torch.where(losses.isfinite(), 0, self.streak + 1)
        gone = (self.streak >= self.patience) & (self.since < 0)
        self.since = torch.where(gone, step, self.since)

    def report(self) -> tuple[int, list[int]] | None:
        """The first bad step and the exits (from 1) gone bad by now, or None; waits for the device."""
        since = self.since.tolist()
        bad = [step for step in since if step >= 0]
        return (min(bad), [k for k, step in enumerate(since, 1) if step >= 0]) if bad else None


def check_finite(net: nn.Module) -> str | None:
    """The first parameter or running statistic that holds a NaN or an infinity, or None."""
    statistics = [
        (n, b) for n, b in net.named_buffers() if n.rpartition(".")[2] in ("running_mean", "running_var")
    ]
    named = [*net.named_parameters(), *statistics]
    finite = torch.stack([tensor.isfinite().all() for _, tensor in named]).tolist()
    return next((name for (name, _), fine in zip(named, finite, strict=True) if not fine), None)
