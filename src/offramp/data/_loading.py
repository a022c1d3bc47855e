"""Batches that worker processes read ahead."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from offramp.cores import cores
from offramp.errors import UserError
from offramp.signals import deaf_to_signals, no_sigchld_handler

__all__ = ["FORK", "WorkerDied", "loaded", "num_workers"]

T = TypeVar("T")

FORK = sys.platform == "linux"  # there, workers start in no time and scripts need no __main__ guard


class WorkerDied(UserError):
    """A process that reads data ahead was killed, so that its batch cannot be delivered."""


def num_workers(world: int = 1) -> int:
    """How many processes read for each of `world` processes: one per core, at most 8."""
    return min(8, cores() // world)


def loaded(
    decoder: Dataset[T | UserError], plan: Iterable[list[int]], *, workers: int, pin_memory: bool = False
) -> Iterator[T]:
    """Yield what a decoder makes of each list of rows, in order.

    The workers leave SIGINT, SIGTERM and SIGHUP to this process, and end with it, whatever ends it. What they
    are warned of, this process is warned of.

    Args:
        decoder: Gives a batch for a list of rows, or returns an error: raised in a worker, it would reach the
            user wrapped in that one's traceback.
        plan: The lists.
        workers: How many processes read ahead; 0: this one reads.
        pin_memory: Whether the batches are wanted on a GPU.

    Raises:
        WorkerDied: One of them was killed.
        UserError: The decoder returned it.
    """
    loader: DataLoader[Any] = DataLoader(
        _WithWarnings(decoder) if workers else decoder,
        batch_size=None,
        sampler=cast("Any", plan),
        num_workers=workers,
        multiprocessing_context="fork" if FORK and workers else None,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # or else the loader draws from the global one
    )
    if not workers:
        yield from map(_unless_error, loader)
        return
    for batch, warned in _read_ahead(loader):
        for text, category in warned:
            warnings.warn(text, category, stacklevel=2)
        yield _unless_error(batch)


def _read_ahead(loader: DataLoader[Any]) -> Iterator[Any]:
    """The batches of a loader, whose processes end with the last batch that is wanted."""
    with deaf_to_signals(), no_sigchld_handler():
        batches: Any = iter(loader)
    workers: list[BaseProcess] = batches._workers  # multiprocessing itself forgets those that have ended
    end = Finalize(None, _end, [workers], exitpriority=0)  # here, or at the end of the program
    death = None
    try:
        yield from batches
    except (RuntimeError, OSError, EOFError):  # it shows as any of these
        death = _death(workers)
        if death is None:
            raise
    finally:
        with deaf_to_signals():  # Python would drop what a handler raises amid a __del__
            del batches  # which asks the workers to end, and waits for those that are at it
            end()
    if death is not None:
        raise death


def _end(workers: Sequence[BaseProcess]) -> None:
    with no_sigchld_handler():
        for worker in workers:
            worker.kill()
            worker.join()


def _death(workers: Sequence[BaseProcess]) -> WorkerDied | None:
    """The error that tells how the first worker was ended; None where all of them live or ended well."""
    connection.wait([worker.sentinel for worker in workers], timeout=1)  # one may be about to
    for worker in workers:
        if worker.exitcode:
            code = worker.exitcode
            by = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return WorkerDied(
                f"a process that read the data ahead (pid {worker.pid}) was ended by {by}, as where memory "
                "runs out; make room, then try again"
            )
    return None


def _unless_error(batch: T | UserError) -> T:
    if isinstance(batch, UserError):
        raise batch
    return batch


def _shared(batch: T) -> T | UserError:
    """A batch that the trainer can have, as its tensors are in shared memory, or why there is no room.

    The queue that hands it over would print the error, and the batch be waited for without end.
    """
    try:
        _share(batch)
    except (OSError, RuntimeError) as error:
        return UserError(
            f"no shared memory for a batch that was read ahead ({str(error).splitlines()[0]}); make room in "
            "/dev/shm (in a container by its option --shm-size), or take a smaller `batch_size`"
        )
    return batch


def _share(values: object) -> None:
    if isinstance(values, Tensor):
        values.share_memory_()
    elif isinstance(values, (tuple, Mapping)):
        for value in values.values() if isinstance(values, Mapping) else values:
            _share(value)


class _WithWarnings(Dataset[tuple[T | UserError, list[tuple[str, type[Warning]]]]], Generic[T]):
    """What a decoder gives, and what was warned of meanwhile, which a worker cannot tell by itself."""

    def __init__(self, decoder: Dataset[T]) -> None:
        self.decoder = decoder

    def __getitem__(self, rows: Any) -> tuple[T | UserError, list[tuple[str, type[Warning]]]]:
        with warnings.catch_warnings(record=True) as caught:
            batch = self.decoder[rows]
        return _shared(batch), [(str(warning.message), _builtin(warning.category)) for warning in caught]


def _builtin(category: type[Warning]) -> type[Warning]:
    """The kind of warning that every process knows."""
    return next(kind for kind in category.__mro__ if kind.__module__ == "builtins")
