"""Dynamic weight average: losses that fall slowly weigh more.

Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, arXiv:1803.10704, Eq 7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from offramp.checks import number
from offramp.methods.balancers.balancer import Balancer
from offramp.methods.objectives.step import Step

__all__ = ["DWA"]


@dataclass(frozen=True, kw_only=True)
class DWA(Balancer):
    """Weighs loss k by K softmax_k(r_k / T), r_k the ratio of its means over the last two epochs.

    All weights are 1 in the first two epochs, and add up to K after. The means are of the losses before any
    weight, over all processes, without those that are not finite. An output without a target in an epoch
    keeps the means that it has.

    Attributes:
        temperature: T; the higher it is, the more alike are the weights. 2 in the paper.

    Raises:
        UserError: A value out of its range.
    """

    needs = frozenset({"epoch"})
    whole_batch = ""
    temperature: float = 2.0

    def __post_init__(self) -> None:
        number(self, "temperature", "above 0", lambda t: t > 0)

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Sequence[Tensor], Step], list[Tensor]]:  # noqa: D102
        return BoundDWA(self, len(net.outputs))  # type: ignore[arg-type]


class BoundDWA(nn.Module):
    """Dynamic weight average bound to a net.

    It holds the sums of this epoch's losses and how many they are, ``[2, K]``, and the means over the last
    two epochs, ``[2, K]``, the later one first; 0 where there is none yet.
    """

    sums: Tensor
    means: Tensor

    def __init__(self, options: DWA, outputs: int) -> None:
        super().__init__()
        self.temperature = options.temperature
        self.epoch = 0
        self.register_buffer("sums", torch.zeros(2, outputs))
        self.register_buffer("means", torch.zeros(2, outputs))

    def forward(self, losses: Sequence[Tensor], step: Step) -> list[Tensor]:
        """Weigh the losses by how they fell; at the first step of an epoch the one before is concluded."""
        if step.epoch != self.epoch:
            self._conclude(step.epoch)
        if not step.trial:
            self._see(torch.stack([loss.detach() for loss in losses]).to(self.sums), step)
        weights = self._weights()[step.present]
        weights = len(losses) * weights.softmax(0)
        return [weight.to(loss) * loss for weight, loss in zip(weights, losses, strict=True)]

    def _see(self, losses: Tensor, step: Step) -> None:
        """Add a batch's losses to the sums, equal in all processes, of which one writes the checkpoints."""
        seen = step.share * torch.stack([losses, torch.ones_like(losses)])
        seen = seen if step.average is None else step.average(seen)
        self.sums[:, step.present] += torch.where(seen[0].isfinite(), seen, 0)

    def _conclude(self, epoch: int) -> None:
        self.epoch = epoch
        total, count = self.sums
        seen = count > 0
        mean = total / torch.where(seen, count, 1)
        self.means.copy_(torch.where(seen, torch.stack([mean, self.means[0]]), self.means))
        self.sums.zero_()

    def _weights(self) -> Tensor:
        """What the softmax is of, ``[K]``: a ratio of 1 for a loss that has no two means to compare."""
        later, before = self.means
        known = (later > 0) & (before > 0)
        return torch.where(known, later / torch.where(known, before, 1), 1) / self.temperature

    def get_extra_state(self) -> dict[str, Any]:
        """The epoch, for a checkpoint."""
        return {"epoch": self.epoch}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the epoch."""
        self.epoch = state["epoch"]
