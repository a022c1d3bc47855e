"""How an epoch is organised: in phases, each one run over training samples, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from offramp.data.batch import Batch
from offramp.methods.passes import Passes

if TYPE_CHECKING:
    from offramp.methods.loops.context import LoopContext

__all__ = ["BoundLoop", "Loop", "Losses", "Phase", "Progress"]


@dataclass(frozen=True)
class Phase:
    """One run over training samples within an epoch, as one process sees it.

    Attributes:
        name: What the log calls it; empty if the epoch has no other phase.
        share: Share of an epoch's steps.
        draw: Which of the epoch's random orders (from 0) the images come in.
        draws: How many such orders an epoch has.
        whole: Whether every process gets whole batches, instead of its share of each.
        remedy: What helps if a loss is no longer finite.
    """

    name: str = ""
    share: float = 1.0
    draw: int = 0
    draws: int = 1
    whole: bool = False
    remedy: str = "a lower lr or with clip, e.g. clip=1"


class Progress(NamedTuple):
    """How far the training is.

    Attributes:
        epoch: Whole epochs done.
        fraction: Of the training, from 0 to 1.
        lr: The recipe's learning rate now.
    """

    epoch: int
    fraction: float
    lr: float


class Losses(NamedTuple):
    """The losses of a step, without gradient.

    Attributes:
        values: One for each output that had one.
        outputs: Their places among the net's outputs, in rising order.
    """

    values: Tensor
    outputs: Sequence[int]

    @classmethod
    def of(cls, losses: Sequence[Tensor], outputs: Sequence[int]) -> Losses:
        """The losses of some outputs."""
        return cls(torch.stack(list(losses)).detach(), outputs)

    @property
    def at(self) -> slice | list[int]:
        """What picks the outputs out of a Tensor ``[K]``; a slice waits for no device."""
        n = len(self.outputs)
        return slice(n) if [*self.outputs] == [*range(n)] else [*self.outputs]


class BoundLoop:
    """A loop at work on one net.

    Attributes:
        phases: The phases of every epoch, in order.
        apart: Whether the processes hold different states.
    """

    phases: Sequence[Phase]
    apart: bool = False

    def begin(self, phase: int, progress: Progress) -> None:
        """Prepare the first step of a phase (its index)."""

    def step(self, phase: int, batch: Batch, progress: Progress) -> Losses:
        """Train on one batch.

        Args:
            phase: Index of the phase.
            batch: The samples.
            progress: When this is.

        Returns:
            The losses before the step, of the outputs that ran and had a target.
        """
        raise NotImplementedError

    def end(self, phase: int, progress: Progress) -> None:
        """Conclude a phase (its index) after its last step."""

    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs beside the net, as plain values and tensors."""
        raise NotImplementedError

    def load(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`state` gave."""
        raise NotImplementedError

    def files(self) -> dict[str, bytes]:
        """What the finished run keeps beside the net: file name -> content."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Loop:
    """How an epoch is organised. The fields of a subclass are the method's options.

    Attributes:
        own_backward: Whether the loop averages gradients over the processes by itself.
    """

    own_backward: ClassVar[bool] = False

    @property
    def reads_epochs(self) -> tuple[str, ...]:
        """What of it depends on how many epochs there will be."""
        return ()

    @property
    def reads_data(self) -> tuple[str, ...]:
        """What of it decides by the losses how much an epoch computes, so that nobody can count it before."""
        return ()

    @property
    def passes(self) -> Passes | None:
        """Cost of an epoch in passes over the training images; None: the combiner's, at every step."""
        return None

    @property
    def whole_batch(self) -> str:
        """Why no batch can be cut into micro-batches; empty where the loop does so."""
        return f"the steps of {type(self).__name__} are made of whole batches"

    def bind(self, context: LoopContext) -> BoundLoop:
        """What organises the epochs while a net is trained.

        Raises:
            UserError: The net or the rest of the method does not fit the loop.
        """
        raise NotImplementedError
