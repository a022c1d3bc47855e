"""What a method does at the forks: a rule that names the gains at each place."""

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
        channels: C.
        exit: Of the fork, from 1.
        num_exits: Of the net; its last exit has no fork.
        coarsest: Whether it is the last Tensor of its feature, as a feature of one Tensor is.
    """

    channels: int
    exit: int
    num_exits: int
    coarsest: bool = True

    def among(self, scales: str) -> bool:
        """Whether the place is one of the ``coarsest`` or of ``all``."""
        return self.coarsest or scales == "all"


class Rule(Protocol):
    """Gains by place, such as :class:`~offramp.forks.Partition` or :class:`~offramp.forks.Equilibrium`.

    The gains of several rules multiply.

    Attributes:
        per_channel: Whether the gains of one place differ from channel to channel.
    """

    per_channel: ClassVar[bool]

    def gains(self, place: Place) -> Gains | None:
        """The gains at a place; None where the rule does not act, which is the plain fork."""
        ...
