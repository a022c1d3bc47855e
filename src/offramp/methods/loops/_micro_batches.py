"""Into how many micro-batches a batch is cut: as many as the recipe says, or as memory takes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Protocol, TypeVar

import torch

from offramp.data.batch import Batch
from offramp.data.joint_batch import JointBatch
from offramp.distributed.collectives import apart, first_text
from offramp.methods.loops.context import LoopContext
from offramp.out_of_memory import free_memory, ran_out_of_memory, restart_peak, samples_in_words
from offramp.say import say
from offramp.stored_values import check_whole
from offramp.unchanged import snapshot

__all__ = ["MicroBatches"]

Made = TypeVar("Made", covariant=True)


class Gradients(Protocol[Made]):
    """Fills the gradients of a step from its micro-batches."""

    def __call__(self, context: LoopContext, micro_batches: list[Batch], /) -> Made:
        """Go forward and backward with each."""


class MicroBatches:
    """Cuts batches; with ``accumulate="auto"`` into twice as many parts whenever memory runs out.

    A part has two samples at least, of each data set, without which batch norm cannot do.

    Args:
        context: What the loop works with.

    Attributes:
        count: Into how many parts a batch is cut now.
    """

    def __init__(self, context: LoopContext) -> None:
        self.context = context
        self.growing = context.accumulate == "auto"
        self.count = 1 if context.accumulate == "auto" else context.accumulate
        self.agreed = False  # whether a step has fitted in every process

    def run(self, batch: Batch, gradients: Gradients[Made]) -> Made:
        """Find a batch's gradients, if need be with more micro-batches.

        Nothing of an attempt that fails is left: no gradient, batch statistic or random number, nothing that
        the method remembers, and no counter in an attribute of the net.

        Several processes, which wait for each other in a step, agree on a number before their first: each
        tries that step by itself, until it fits in all of them.

        Args:
            batch: The samples.
            gradients: Fills the gradients from micro-batches, from the first to the last.
        """
        several = self.context.fabric.world_size > 1
        if self.growing and several and not self.agreed:
            self._agree(batch, gradients)
        while True:
            undo = self._snapshot() if self.growing and not several else None
            try:
                return gradients(self.context, batch.split(self.count))
            except Exception as error:
                if undo is None or not self._can_grow(batch) or not ran_out_of_memory(error):
                    raise
            # here the error is gone, and the graphs that its traceback held
            undo()
            self._grow(batch)

    def _agree(self, batch: Batch, gradients: Gradients[Made]) -> None:
        while True:
            undo, failure = self._snapshot(), None
            try:
                with apart():
                    gradients(self.context.plain(), batch.split(self.count))
            except Exception as error:
                if not ran_out_of_memory(error):
                    raise
                failure = str(error)
            undo()
            failure = first_text(failure, self.context.fabric.device)
            if failure is None:
                self.agreed = True
                return
            if not self._can_grow(batch):
                raise torch.OutOfMemoryError(failure)
            self._grow(batch)

    def _snapshot(self) -> Callable[[], None]:
        net, bound = self.context.net, self.context.bound
        put_back, remembered = snapshot(net, bound), copy.deepcopy(bound.state_dict())

        def undo() -> None:
            bound.zero_grad()
            net.zero_grad()
            put_back()
            bound.load_state_dict(remembered)
            bound.drop_unfinished()

        return undo

    def _can_grow(self, batch: Batch) -> bool:
        return self.count < _most(batch)

    def _grow(self, batch: Batch) -> None:
        device, before = self.context.fabric.device, samples_in_words(-(-len(batch) // self.count))
        free_memory(device)
        restart_peak(device)
        self.count = min(2 * self.count, _most(batch))
        if self.context.fabric.is_global_zero:
            say(
                f"out of memory with {before} at a time: batches are cut into {self.count} parts from here on"
            )

    def state(self) -> dict[str, int]:
        """What a checkpoint keeps: how many there are, if that may change."""
        return {"micro_batches": self.count} if self.growing else {}

    def load(self, state: dict[str, int]) -> None:
        """Restore what :meth:`state` returned."""
        if self.growing:
            check_whole(state["micro_batches"], "micro_batches", 1)
            self.count = state["micro_batches"]


def _most(batch: Batch) -> int:
    """Into how many parts of two samples or more a batch can be cut, or each of its data sets' samples."""
    parts = batch.parts.values() if isinstance(batch, JointBatch) else [batch]
    return max(1, min(map(len, parts)) // 2)
