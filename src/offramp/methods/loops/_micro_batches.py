"""Into how many micro-batches a batch is cut: as many as the recipe says, or as memory takes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

from offramp.data.batch import Batch
from offramp.data.joint_batch import JointBatch
from offramp.methods.loops.context import LoopContext
from offramp.out_of_memory import counted, free_memory, ran_out_of_memory, restart_peak
from offramp.say import say
from offramp.unchanged import noted

__all__ = ["MicroBatches"]

Made = TypeVar("Made")


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

    def run(self, batch: Batch, gradients: Callable[[list[Batch]], Made]) -> Made:
        """Find a batch's gradients, if need be with more micro-batches.

        Nothing of an attempt that fails is left: no gradient, batch statistic or random number, nothing that
        the method remembers, and no counter in an attribute of the net.

        Args:
            batch: The samples.
            gradients: Fills the gradients from micro-batches, from the first to the last.
        """
        while True:
            undo = self._noted() if self.growing else None
            try:
                return gradients(batch.split(self.count))
            except Exception as error:
                more = min(2 * self.count, _most(batch))
                if undo is None or more <= self.count or not ran_out_of_memory(error):
                    raise
            # here the error is gone, and the graphs that its traceback held
            undo()
            self._cut_into(more, len(batch))

    def _noted(self) -> Callable[[], None]:
        net, bound = self.context.net, self.context.bound
        put_back, remembered = noted(net, bound), copy.deepcopy(bound.state_dict())

        def undo() -> None:
            bound.zero_grad()
            net.zero_grad()
            put_back()
            bound.load_state_dict(remembered)
            bound.drop_unfinished()

        return undo

    def _cut_into(self, count: int, samples: int) -> None:
        device = self.context.fabric.device
        free_memory(device)
        restart_peak(device)
        if self.context.fabric.is_global_zero:
            before = counted(-(-samples // self.count))
            say(f"out of memory with {before} at a time: batches are cut into {count} parts from here on")
        self.count = count

    def state(self) -> dict[str, int]:
        """What a checkpoint keeps: how many there are, if that may change."""
        return {"micro_batches": self.count} if self.growing else {}

    def load(self, state: dict[str, int]) -> None:
        """Restore what :meth:`state` returned."""
        if self.growing:
            self.count = state["micro_batches"]


def _most(batch: Batch) -> int:
    """Into how many parts of two samples or more a batch can be cut, or each of its data sets' samples."""
    parts = batch.parts.values() if isinstance(batch, JointBatch) else [batch]
    return max(1, min(map(len, parts)) // 2)
