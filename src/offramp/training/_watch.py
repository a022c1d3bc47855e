"""Sees a loss that is no longer a number, without waiting for the device at every step."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from offramp.methods.loops import Losses
from offramp.tasks.outputs import names_in_words
from offramp.training._plan import Plan

__all__ = ["Watch"]

# Loss scaling starts at 2^16 and is halved after each overflow: after 20 in a row the scale is not to blame.
OVERFLOWS = 20


class Watch:
    """Per output, the first step at which the loss was not finite (under loss scaling: the 20th in a row).

    Args:
        outputs: What the log calls the outputs.
        loss_scaling: Whether an overflow now and then is normal, because the scaler skips that step.
        device: Where the losses are.
    """

    def __init__(self, outputs: Sequence[str], *, loss_scaling: bool, device: torch.device) -> None:
        self.outputs = outputs
        self.patience = OVERFLOWS if loss_scaling else 1
        self.streak = torch.zeros(len(outputs), dtype=torch.int64, device=device)
        self.since = torch.full((len(outputs),), -1, dtype=torch.int64, device=device)

    def see(self, losses: Losses, step: int) -> None:
        """Note a step's losses; steps count from 0 over the period."""
        bad = torch.zeros_like(self.streak, dtype=torch.bool)
        bad[losses.index] = ~losses.values.isfinite()
        self.streak = torch.where(bad, self.streak + 1, 0)
        gone = (self.streak >= self.patience) & (self.since < 0)
        self.since = torch.where(gone, step, self.since)

    def trouble(self, plan: Plan) -> str | None:
        """The outputs whose loss is not finite, and since when; or None. Waits for the device."""
        since = self.since.tolist()
        bad = {name: step for name, step in zip(self.outputs, since, strict=True) if step >= 0}
        if not bad:
            return None
        when = plan.where(min(bad.values()))
        named = names_in_words([*bad])
        return f"the loss of {named} is not finite at {when}"
