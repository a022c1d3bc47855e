"""Rules: each names the gains at every place where a Tensor crosses a fork."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

__all__ = ["SCALES", "Place", "Rule"]

SCALES = ("coarsest", "all")


@dataclass(frozen=True)
class Place:
    """Where a Tensor crosses a fork: to the heads that read it, and then to the next stage if there is one.

    Attributes:
        channels: Number of the Tensor's channels, C.
        exit: Which stage's feature it is, from 1.
        num_exits: Number of the net's stages.
        coarsest: Whether it is the last Tensor of its feature that has channels.
        heads: How many heads read it: one at an exit, more where tasks share a trunk.
    """

    channels: int
    exit: int
    num_exits: int
    coarsest: bool = True
    heads: int = 1

    @property
    def outputs(self) -> tuple[int, ...]:
        """How many outputs of the net lie behind each consumer: one behind a head."""
        later = self.num_exits - self.exit
        return (1,) * self.heads + ((self.heads * later,) if later else ())

    @property
    def name(self) -> str:
        """What messages call the feature."""
        return "the trunk's feature" if self.num_exits == 1 else f"the feature of exit {self.exit}"

    def among(self, scales: str) -> bool:
        """Whether a rule for the scales ``coarsest`` or ``all`` acts at this place."""
        return self.coarsest or scales == "all"


class Rule(Protocol):
    """Base of rules for forks: gives the gradient gains at every place.

    The gains of several rules multiply.

    Attributes:
        per_channel: Whether the gains of one place differ from channel to channel.
    """

    per_channel: ClassVar[bool]

    def gains(self, place: Place) -> Tensor | None:
        """The gains at a place, one for each consumer and channel.

        Returns:
            Float64 ``[consumers, C]``, in the order of :attr:`Place.outputs`: what the gradient is multiplied
            by that each consumer sends back. All ones are the plain fork, and so is None.
        """
        ...
