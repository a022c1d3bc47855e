"""Forks: each hands a stage's feature to those that read it, such as a head and the next stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from offramp.forks.scales import scales_of, with_scales

__all__ = ["Fork", "GainFork"]


class Fork(nn.Module):
    """The plain fork: its consumers read the same feature, and all of them send their gradient back.

    Args:
        consumers: How many; of an exit these are the head and the next stage.
    """

    def __init__(self, consumers: int = 2) -> None:
        super().__init__()
        self.consumers = consumers

    def forward(self, feature: Any) -> tuple[Any, ...]:
        """The feature for each consumer."""
        return (feature,) * self.consumers


class GainFork(Fork):
    """A fork that hands each Tensor of a feature out in its own way.

    Args:
        hand_out: For each Tensor of the feature, what turns it into the head's and the next stage's; None
            hands both the Tensor itself.
    """

    def __init__(self, hand_out: Sequence[Callable[[Tensor], tuple[Tensor, Tensor]] | None]) -> None:
        super().__init__()
        self.hand_out = tuple(hand_out)

    def forward(self, feature: Any) -> tuple[Any, ...]:
        """The feature for the head, and the feature for the next stage."""
        scales = scales_of(feature)
        pairs = [(x, x) if hand is None else hand(x) for hand, x in zip(self.hand_out, scales, strict=True)]
        to_head, to_next = zip(*pairs, strict=True)
        return with_scales(feature, to_head), with_scales(feature, to_next)

    def extra_repr(self) -> str:  # noqa: D102
        return ", ".join("plain" if hand is None else repr(hand) for hand in self.hand_out)
