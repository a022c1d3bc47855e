"""How an epoch is organised: in phases, each one run over training samples, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from offramp.data.batch import Batch
from offramp.methods.loops.context import LoopContext
from offramp.methods.loops.progress import Progress
from offramp.methods.objectives import Step
from offramp.methods.passes import Passes

__all__ = ["BoundLoop", "Loop", "Losses", "Phase"]


@dataclass(frozen=True)
class Phase:
    """One run over training samples within an epoch, as one process sees it.

    Attributes:
        name: What the log calls it; empty if the epoch has no other phase.
        share: Fraction of the steps of a run over all training samples that the phase has.
        draw: Which of the epoch's random orders (from 0) the samples come in.
        draws: How many such orders an epoch has.
        whole: Whether every process gets whole batches, instead of its share of each.
        remedy: What to advise where a loss is no longer finite.
    """

    name: str = ""
    share: float = 1.0
    draw: int = 0
    draws: int = 1
    whole: bool = False
    remedy: str = "a lower lr or with clip, e.g. clip=1"


@dataclass(frozen=True)
class Losses:
    """The losses of a step, without gradient.

    Attributes:
        values: One for each output that had one.
        outputs: Indices of these outputs among the net's, in rising order.
    """

    values: Tensor
    outputs: Sequence[int]

    @classmethod
    def of(cls, step: Step, losses: Sequence[Tensor]) -> Losses:
        """The losses of a step's present outputs; none where the batch has no target at all."""
        device = step.outputs[0].device
        values = torch.stack([loss.detach() for loss in losses]) if losses else torch.zeros(0, device=device)
        return cls(values, step.present)

    @property
    def index(self) -> slice | list[int]:
        """Index of the outputs into a Tensor ``[K]``; if possible a slice, which waits for no device."""
        n = len(self.outputs)
        return slice(n) if [*self.outputs] == [*range(n)] else [*self.outputs]


class BoundLoop:
    """A loop that trains one net.

    Attributes:
        phases: The phases of every epoch, in order.
        apart: Whether each process has a state of its own, all of which go into a checkpoint.
    """

    phases: Sequence[Phase]
    apart: bool = False

    @property
    def micro_batches(self) -> int:
        """Current number of micro-batches of a batch."""
        return 1

    def begin(self, phase: int, progress: Progress) -> None:
        """Prepare the first step of a phase, given by its index."""

    def step(self, phase: int, batch: Batch, progress: Progress) -> Losses:
        """Train on one batch.

        Args:
            phase: Index of the phase.
            batch: The samples.
            progress: How far the training is.

        Returns:
            The losses before the step, of the outputs that ran and had a target.
        """
        raise NotImplementedError

    def end(self, phase: int, progress: Progress) -> None:
        """Conclude a phase, given by its index, after its last step."""

    def state(self) -> dict[str, Any]:
        """Everything that a checkpoint needs beside the net, as plain values and tensors."""
        raise NotImplementedError

    def load(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state` returned."""
        raise NotImplementedError

    def files(self) -> dict[str, bytes]:
        """Files that the finished run keeps beside the net: file name -> content."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Loop:
    """How an epoch is organised. The fields of a subclass are the method's options.

    Attributes:
        own_backward: Whether the loop averages gradients over the processes by itself, and needs a model that
            takes ``tensors``. Such a loop descends one weighted sum of the losses at a time.
        staged: Whether the net passes through stages, between which it is no net to evaluate; every process
            gets whole batches then (:attr:`Phase.whole`).
        bilevel: Whether it trains a part of the method, balancer or objective, that learns weights of losses.
        in_words: How it trains: the end of a sentence that begins with the method's name.
    """

    own_backward: ClassVar[bool] = False
    staged: ClassVar[bool] = False
    bilevel: ClassVar[bool] = False
    in_words: ClassVar[str] = "trains in epochs of several phases"

    @property
    def every(self) -> int:
        """A number n: one step in n costs more than the others."""
        return 1

    @property
    def parts(self) -> int:
        """Number of parts that every batch is cut into; each part is one step."""
        return 1

    @property
    def held_out(self) -> float:
        """Share of the training samples that :attr:`LoopContext.outer` has to itself; 0: it has all."""
        return 0.0

    @property
    def reads_epochs(self) -> tuple[str, ...]:
        """Options whose effect depends on how many epochs there will be."""
        return ()

    @property
    def reads_data(self) -> tuple[str, ...]:
        """Options under which the losses decide how much an epoch computes, which nobody can count before."""
        return ()

    @property
    def passes(self) -> Passes | None:
        """Cost of an epoch in passes over the training samples; None: the combiner's, at every step."""
        return None

    @property
    def whole_batch(self) -> str:
        """Why no batch can be cut into micro-batches; empty where the loop does so."""
        return f"the steps of {type(self).__name__} are made of whole batches"

    def bind(self, context: LoopContext) -> BoundLoop:
        """Bind the loop to a net and the means to train it.

        Raises:
            UserError: The net or the rest of the method does not fit the loop.
        """
        raise NotImplementedError
