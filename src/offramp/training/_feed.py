"""The training batches of each phase of an epoch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from offramp.data.batch import Batch
from offramp.methods.loops import Phase
from offramp.recipes.recipe import Recipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from offramp.data import OpenedData, Transform

__all__ = ["Feed"]

FEW = 1 << 20  # epochs that never come: the batches that are not trained on have orders of their own


class Feed:
    """Augmented training batches, on the device, in the net's memory format.

    Args:
        data: Its training set.
        transform: How images are augmented.
        recipe: Batch size, seed, memory format.
        fabric: Device and processes.
    """

    def __init__(self, data: OpenedData[Any], transform: Transform, recipe: Recipe, fabric: Fabric) -> None:
        self.data, self.transform, self.recipe, self.fabric = data, transform, recipe, fabric

    def phase(self, phase: Phase, epoch: int, start: int, steps: int) -> Iterator[Batch]:
        """The batches of a phase from batch `start` on."""
        return itertools.islice(
            self._batches(epoch * phase.draws + phase.draw, start, whole=phase.whole), steps - start
        )

    def few(self, number: int, count: int) -> Iterator[Batch]:
        """A few whole batches, a pure function of a number."""
        return itertools.islice(self._batches(FEW + number, 0, whole=True), count)

    def _batches(self, epoch: int, start: int, *, whole: bool) -> Iterator[Batch]:
        rank, world = (0, 1) if whole else (self.fabric.global_rank, self.fabric.world_size)
        batches: Iterator[Batch] = self.data.train.batches(
            self.recipe.batch_size // world,
            transform=self.transform,
            device=self.fabric.device,
            seed=self.recipe.seed,
            epoch=epoch,
            start=start,
            shuffle=True,
            drop_last=True,
            rank=rank,
            world=world,
        )
        if not self.recipe.channels_last:
            return batches
        return (batch.channels_last() for batch in batches)
