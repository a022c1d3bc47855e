"""What several processes that train one net agree on; with one process, all of it is a no-op."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_map_only

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["first", "gather", "highest", "mean", "share", "total"]


def total(values: Tensor, fabric: Fabric) -> Tensor:
    """The sum over the processes."""
    if fabric.world_size == 1:
        return values
    values = values.clone()
    dist.all_reduce(values)
    return values


def mean(values: Tensor, fabric: Fabric) -> Tensor:
    """The mean over the processes."""
    return total(values, fabric) / fabric.world_size


def highest(number: int, fabric: Fabric) -> int:
    """The largest of the processes' numbers."""
    if fabric.world_size == 1:
        return number
    value = torch.tensor(number, device=fabric.device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return int(value)


def first(text: str | None, fabric: Fabric) -> str | None:
    """The first process's text that is not None."""
    if not highest(text is not None, fabric):
        return None
    return next(found for found in gather(text, fabric) if found is not None)


def gather(value: Any, fabric: Fabric) -> list[Any]:
    """Every process's plain values and tensors, which are copied to the CPU."""
    if fabric.world_size == 1:
        return [value]
    values: list[Any] = [None] * fabric.world_size
    dist.all_gather_object(values, tree_map_only(Tensor, Tensor.cpu, value))
    return values


def share(tensors: Iterable[Tensor], fabric: Fabric) -> None:
    """Give every process the first one's values, in place."""
    if fabric.world_size > 1:
        for tensor in tensors:
            dist.broadcast(tensor.detach(), 0)
