"""Batches of fewer samples from where memory runs out, for passes that treat every sample alone."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TypeVar

import torch

from offramp.data.batch import Batch
from offramp.errors import UserError
from offramp.out_of_memory import free_memory, ran_out_of_memory, restart_peak, samples_in_words
from offramp.say import say

__all__ = ["SmallerBatches"]

Made = TypeVar("Made")


class SmallerBatches:
    """Runs a function on batches; when memory runs out, on half as many samples at a time from there on.

    For evaluation without gradients, which no sample's neighbours change but for rounding.

    Args:
        device: Where the function works.
        together: So many samples must stay together, or a multiple of them.
    """

    def __init__(self, device: torch.device, together: int = 1) -> None:
        self.device, self.together = device, together
        self._size: int | None = None  # samples at a time; None: as they come

    def __call__(self, batch: Batch, run: Callable[[Batch], Made]) -> list[Made]:
        """What the function gives for the samples, in order: one value for each part of the batch.

        Raises:
            UserError: Not even the fewest samples fit into memory.
        """
        while True:
            size = max(1, min(len(batch), self._size or len(batch)))
            try:
                return [run(part) for part in _parts(batch, size)]
            except Exception as error:
                if not ran_out_of_memory(error):
                    raise
            self._halve(size)  # here the error is gone, and what its traceback held

    def _halve(self, size: int) -> None:
        smaller = -(-size // (2 * self.together)) * self.together
        free_memory(self.device)
        restart_peak(self.device)
        samples = samples_in_words(size)
        at_a_time = f"out of memory in an evaluation on {self.device.type} with {samples} at a time"
        if smaller >= size:
            raise UserError(
                f"{at_a_time}: take a smaller net or smaller samples, or a device with more memory"
            )
        say(f"{at_a_time}; goes on with {smaller}")
        self._size = smaller


def _parts(batch: Batch, size: int) -> list[Batch]:
    if size >= len(batch):
        return [batch]
    starts = range(0, len(batch), size)
    return [batch.map(operator.itemgetter(slice(start, start + size))) for start in starts]
