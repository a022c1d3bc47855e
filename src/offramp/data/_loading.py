"""Batches that worker processes read ahead."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, cast

import torch
from torch.utils.data import DataLoader, Dataset

from offramp.errors import UserError

__all__ = ["FORK", "loaded", "num_workers"]

T = TypeVar("T")

FORK = sys.platform == "linux"  # there, workers start in no time and scripts need no __main__ guard


def num_workers(world: int = 1) -> int:
    """How many processes read for each of `world` processes: one per CPU, at most 8."""
    return min(8, (os.cpu_count() or 1) // world)


def loaded(
    decoder: Dataset[T | UserError], plan: Iterable[list[int]], *, workers: int, pin_memory: bool = False
) -> Iterator[T]:
    """Yield what a decoder makes of each list of rows, in order.

    Args:
        decoder: Gives a batch for a list of rows, or returns an error: raised in a worker, it would reach the
            user wrapped in that one's traceback.
        plan: The lists.
        workers: How many processes read ahead; 0: this one reads.
        pin_memory: Whether the batches are wanted on a GPU.
    """
    loader: DataLoader[Any] = DataLoader(
        decoder,
        batch_size=None,
        sampler=cast("Any", plan),
        num_workers=workers,
        multiprocessing_context="fork" if FORK and workers else None,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # or else the loader draws from the global one
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch
