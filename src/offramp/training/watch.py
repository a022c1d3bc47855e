"""Sees a loss that is no longer a number, without waiting for the device at every step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from offramp.training.plan import Plan

__all__ = ["Watch", "weights_trouble"]

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
        """Note a step's losses, of all exits or of the first ones; steps count from 0 over the whole run."""
        bad = torch.zeros_like(self.streak, dtype=torch.bool)
        bad[: len(losses)] = ~losses.isfinite()
        self.streak = torch.where(bad, self.streak + 1, 0)
        gone = (self.streak >= self.patience) & (self.since < 0)
        self.since = torch.where(gone, step, self.since)

    def trouble(self, plan: Plan) -> str | None:
        """The exits whose loss is not finite, and since when; or None. Waits for the device."""
        since = self.since.tolist()
        bad = [k for k, step in enumerate(since, 1) if step >= 0]
        if not bad:
            return None
        when = plan.where(min(since[k - 1] for k in bad))
        named = f"exit {bad[0]}" if len(bad) == 1 else f"exits {', '.join(map(str, bad))}"
        return f"the loss of {named} is not finite at {when}"


def weights_trouble(net: nn.Module) -> str | None:
    """The first parameter or running statistic that holds a NaN or an infinity; or None."""
    named: list[tuple[str, Tensor]] = list(net.named_parameters())
    named += [(name, b) for name, b in net.named_buffers() if name.endswith(("running_mean", "running_var"))]
    finite = torch.stack([tensor.isfinite().all() for _, tensor in named]).tolist()
    bad = [name for (name, _), fine in zip(named, finite, strict=True) if not fine]
    return f"{bad[0]} is no longer finite" if bad else None
