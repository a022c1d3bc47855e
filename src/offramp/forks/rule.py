"""Rules: each names the gains at every place where a Tensor crosses a fork."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from offramp.forks.gains import Gains

__all__ = ["SCALES", "Place", "Rule"]

SCALES = ("coarsest", "all")


@dataclass(frozen=True)
class Place:
    """Where a Tensor crosses a fork.

    Attributes:
        channels: Number of the Tensor's channels, C.
        exit: The fork's exit, from 1.
        num_exits: Number of the net's exits; the last has no fork.
        coarsest: Whether it is the last Tensor of its feature, as a feature of one Tensor is.
    """

    channels: int
    exit: int
    num_exits: int
    coarsest: bool = True

    def among(self, scales: str) -> bool:
        """Whether a rule for the scales ``coarsest`` or ``all`` acts at this place."""
        return self.coarsest or scales == "all"


class Rule(Protocol):
    """Names the gains at every place, as :class:`~offramp.forks.Partition` and others do.

    The gains of several rules multiply.

    Attributes:
        per_channel: Whether the gains of one place differ from channel to channel.
    """

    per_channel: ClassVar[bool]

    def gains(self, place: Place) -> Gains | None:
        """The gains at a place; None where the rule does not act, which is the plain fork."""
        ...
