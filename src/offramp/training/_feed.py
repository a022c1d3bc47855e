"""The training batches of each phase of an epoch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from offramp.data.batch import Batch
from offramp.data.batches import Batches
from offramp.methods.loops import Phase
from offramp.recipes.recipe import Recipe
from offramp.training._held_out import batch_size_of, hold_out

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from offramp.data import OpenedData, Transform

__all__ = ["Feed"]

# epochs that never come: the batches that are not trained on have orders of their own
FEW = 1 << 20
OUTER = 1 << 22


class Feed:
    """Augmented training batches, on the device, in the net's memory format.

    Args:
        data: Its training set.
        transform: How images are augmented.
        recipe: Batch size, seed, memory format.
        fabric: Device and processes.
        held_out: Share of the training samples that are for :meth:`outer` alone.

    Attributes:
        train: The samples that are trained on.

    Raises:
        UserError: What is held out, or what is left, is too little.
    """

    def __init__(
        self,
        data: OpenedData[Any],
        transform: Transform,
        recipe: Recipe,
        fabric: Fabric,
        held_out: float = 0.0,
    ) -> None:
        self.transform, self.recipe, self.fabric = transform, recipe, fabric
        self.train, self.others = hold_out(data.train, held_out, recipe, fabric.world_size)

    def phase(self, phase: Phase, epoch: int, start: int, steps: int) -> Iterator[Batch]:
        """The batches of a phase from batch `start` on."""
        return itertools.islice(
            self._batches(epoch * phase.draws + phase.draw, start, whole=phase.whole), steps - start
        )

    def few(self, number: int, count: int) -> Iterator[Batch]:
        """A few whole batches, a pure function of a number."""
        return itertools.islice(self._batches(FEW + number, 0, whole=True), count)

    def outer(self, number: int) -> Iterator[Batch]:
        """The batches that a bilevel loop looks at, without end, from a number on."""
        world = self.fabric.world_size
        size = batch_size_of(self.others, self.recipe)
        first, start = divmod(number, self.others.num_batches(size // world, drop_last=True, world=world))
        for epoch in itertools.count(first):
            yield from self._batches(OUTER + epoch, start, whole=False, of=self.others, size=size)
            start = 0

    def _batches(
        self, epoch: int, start: int, *, whole: bool, of: Batches | None = None, size: int | None = None
    ) -> Iterator[Batch]:
        rank, world = (0, 1) if whole else (self.fabric.global_rank, self.fabric.world_size)
        batches: Iterator[Batch] = (of or self.train).batches(
            (size or self.recipe.batch_size) // world,
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
