"""Measuring a net on a data split, in float32, shared by the processes if there are several."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from offramp.distributed.collectives import broadcast, total
from offramp.nets import Net
from offramp.tasks import Task
from offramp.tasks.evaluation import Metrics, evaluate

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from offramp.data import Transform
    from offramp.data.batches import Batches

__all__ = ["Evaluation"]


@dataclass(frozen=True)
class Evaluation:
    """How a net is measured: on images transformed as those of its training were, and not augmented.

    Attributes:
        net: The net; it is measured on the device that it is on.
        tasks: The task of each output by the output's name.
        transform: Normalises the images.
        batch_size: Images per batch, over all processes together; a process takes whole groups of those over
            which a metric averages first (:attr:`~offramp.tasks.Task.together`).
        fabric: The processes; None if there is only this one.
    """

    net: Net
    tasks: Mapping[str, Task]
    transform: Transform
    batch_size: int
    fabric: Fabric | None = None

    def __call__(self, split: Batches) -> Metrics:
        """The metrics on a split."""
        fabric = self.fabric
        rank, world = (0, 1) if fabric is None else (fabric.global_rank, fabric.world_size)
        if fabric is not None:
            broadcast(self.net.buffers())  # batch statistics are each one's own until the next step
        together = math.lcm(*(task.together for task in self.tasks.values()))
        batches = split.batches(
            max(self.batch_size // world // together, 1) * together,
            transform=self.transform,
            device=next(self.net.parameters()).device,
            rank=rank,
            world=world,
            together=together,
        )
        reduction = {} if fabric is None else {"total": total}
        return evaluate(self.net, self.tasks, batches, **reduction)
