"""What the processes that train one net agree on; with one process, all of it is a no-op."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_map_only

from offramp.errors import UserError

__all__ = [
    "apart",
    "broadcast",
    "first_text",
    "gather",
    "highest",
    "mean",
    "mean_all",
    "refused_together",
    "total",
    "world_size",
]


_apart = False  # no ContextVar: backward passes run in threads of their own


@contextmanager
def apart() -> Iterator[None]:
    """Let this process do without the others for a while, as if it were the only one."""
    global _apart
    _apart = True
    try:
        yield
    finally:
        _apart = False


def world_size() -> int:
    """How many processes there are."""
    if _apart:
        return 1
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def total(values: Tensor) -> Tensor:
    """The sum over the processes."""
    if world_size() == 1:
        return values
    values = values.detach().clone()
    dist.all_reduce(values)
    return values


def mean(values: Tensor) -> Tensor:
    """The mean over the processes."""
    return values if world_size() == 1 else total(values) / world_size()


def mean_all(tensors: Iterable[Tensor | None]) -> None:
    """Turn each Tensor into its mean over the processes, in place, at one wait for the other processes."""
    there = [tensor for tensor in tensors if tensor is not None]
    if world_size() > 1 and there:
        flat = mean(torch.cat([tensor.flatten() for tensor in there]))
        for tensor, part in zip(there, flat.split([tensor.numel() for tensor in there]), strict=True):
            tensor.copy_(part.view_as(tensor))


def highest(number: int, device: torch.device) -> int:
    """The largest of the processes' numbers; they travel by the device."""
    if world_size() == 1:
        return number
    value = torch.tensor(number, device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return int(value)


def first_text(text: str | None, device: torch.device) -> str | None:
    """The text of the first process that has one."""
    if not highest(text is not None, device):
        return None
    texts: list[str | None] = gather(text)
    return next(text for text in texts if text is not None)


@contextmanager
def refused_together(device: torch.device) -> Iterator[None]:
    """Raise in every process what one of them refuses in the block, so that none waits for another.

    Raises:
        UserError: That of the block here, or else of the first process that has one.
    """
    try:
        yield
    except UserError as error:
        first_text(str(error), device)
        raise
    if told := first_text(None, device):
        raise UserError(told)


def gather(value: Any) -> list[Any]:
    """Every process's plain values and tensors, which are copied to the CPU."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, tree_map_only(Tensor, Tensor.cpu, value))
    return values


def broadcast(tensors: Iterable[Tensor], source: int = 0) -> None:
    """Give every process one process's values, in place."""
    if world_size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor.detach(), source)
