"""Forks: each hands a stage's feature to those that read it, such as a head and the next stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from offramp.forks.scales import scales_of, with_scales

__all__ = ["Fork", "GainFork", "uncut"]


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
    """A fork that applies a function to each Tensor of a feature, such as one that scales gradients.

    Args:
        hand_out: For each Tensor of the feature, what turns it into one for each consumer; None hands all of
            them the Tensor itself.
        consumers: How many there are.

    Attributes:
        cuts: Whether the rules act; if not (:func:`uncut`), all gradients come back as they are.
    """

    cuts: bool = True

    def __init__(
        self, hand_out: Sequence[Callable[[Tensor], Sequence[Tensor]] | None], consumers: int = 2
    ) -> None:
        super().__init__(consumers)
        self.hand_out = tuple(hand_out)

    def forward(self, feature: Any) -> tuple[Any, ...]:
        """The feature for each consumer."""
        handed = [
            (x,) * self.consumers if hand is None else self._handed(hand, x)
            for hand, x in zip(self.hand_out, scales_of(feature), strict=True)
        ]
        return tuple(with_scales(feature, scales) for scales in zip(*handed, strict=True))

    def _handed(self, hand: Any, x: Tensor) -> Sequence[Tensor]:
        return hand(x) if self.cuts else hand.values(x)  # type: ignore[no-any-return]

    @property
    def parts(self) -> bool:
        """Whether it partitions a Tensor: each channel's gradient comes from one consumer at most."""
        cut = [hand.gains for hand in self.hand_out if hand is not None]  # type: ignore[attr-defined]
        return any(
            all(sum(g != 0 for g in channel) < 2 for channel in zip(*gains, strict=True)) for gains in cut
        )

    def extra_repr(self) -> str:  # noqa: D102
        return ", ".join("plain" if hand is None else repr(hand) for hand in self.hand_out)


@contextmanager
def uncut(net: nn.Module) -> Iterator[None]:
    """Context: gradients of forward passes that begin in it cross the forks unchanged, whatever the rules."""
    forks = [module for module in net.modules() if isinstance(module, GainFork)]
    for fork in forks:
        fork.cuts = False
    try:
        yield
    finally:
        for fork in forks:
            fork.cuts = True
