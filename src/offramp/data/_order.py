"""Seeded generators, stratified choices of samples, and the order of batches."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

import numpy as np
import torch
from torch import Generator, Tensor

from offramp.errors import UserError

__all__ = ["Draw", "batch_order", "generator", "num_batches", "stratified"]


class Draw(IntEnum):
    """Purposes of random numbers, each with streams of its own."""

    ORDER = 0
    AUGMENT = 1
    CHOICE = 2


def generator(purpose: Draw, *key: int) -> Generator:
    """A CPU generator that is a pure function of its purpose and key, e.g. (seed, epoch, batch)."""
    mixed = np.random.SeedSequence([purpose, *key]).generate_state(1, np.uint64)[0]
    return Generator().manual_seed(int(mixed))


def stratified(labels: Tensor, count: int, *, seed: int) -> Tensor:
    """A random choice of `count` samples in proportion to the classes, within one sample.

    The samples are shuffled, sorted by class, and picked at even distances.

    Args:
        labels: int64 ``[N]``.
        count: Number of samples to choose, 0 ... N.
        seed: The choice is a pure function of it.

    Returns:
        Sorted indices, int64 ``[count]``.
    """
    shuffled = torch.randperm(len(labels), generator=generator(Draw.CHOICE, seed))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    # the middles of `count` equal stretches
    positions = (torch.arange(count) * 2 + 1) * len(labels) // (2 * max(count, 1))
    return by_class[positions].sort().values


def num_batches(samples: int, batch_size: int, *, drop_last: bool = False, world: int = 1) -> int:
    """Number of batches that each of `world` ranks gets.

    Raises:
        UserError: `drop_last` would drop every sample.
    """
    global_size = batch_size * world
    if drop_last and 0 < samples < global_size:
        largest = samples - samples % world
        remedy = f"take a smaller one, e.g. `batch_size={largest}`" if largest > 1 else "give more samples"
        raise UserError(f"{samples} samples do not fill one batch of {global_size}; {remedy}")
    return samples // global_size if drop_last else -(-samples // global_size)


def batch_order(
    samples: int,
    batch_size: int,
    *,
    seed: int = 0,
    epoch: int = 0,
    start: int = 0,
    shuffle: bool = False,
    drop_last: bool = False,
    rank: int = 0,
    world: int = 1,
    together: int = 1,
) -> Iterator[tuple[int, Tensor]]:
    """Number and indices (int64 ``[batch_size]`` or fewer) of one epoch's batches, from batch `start` on.

    The ranks divide each batch of ``batch_size * world`` samples, so that all take the same number of steps.
    No sample comes twice; a last batch of fewer samples than ranks leaves some ranks an empty one. Every
    `together` consecutive samples go to one rank.
    """
    if shuffle:
        order = torch.randperm(samples, generator=generator(Draw.ORDER, seed, epoch))
    else:
        order = torch.arange(samples)
    global_size = batch_size * world
    for number in range(start, num_batches(samples, batch_size, drop_last=drop_last, world=world)):
        indices = order[number * global_size : (number + 1) * global_size]
        yield number, indices[torch.arange(len(indices)) // together % world == rank]
