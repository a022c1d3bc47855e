"""What several processes that train one net agree on; with one process, all of it is a no-op."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["highest", "mean", "share", "total"]


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


def share(tensors: Iterable[Tensor], fabric: Fabric) -> None:
    """Give every process the first one's values, in place."""
    if fabric.world_size > 1:
        for tensor in tensors:
            dist.broadcast(tensor.detach(), 0)
