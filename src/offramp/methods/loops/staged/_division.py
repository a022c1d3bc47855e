"""How processes divide the outputs' phases, and what they tell each other of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch.distributed as dist
from torch import Tensor

from offramp.distributed.collectives import broadcast
from offramp.methods.loops.staged._copies import Copies
from offramp.methods.loops.staged._importance import Importance

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Division"]


class Division:
    """Which process has the phase of which output.

    Of W processes each takes every W-th of the outputs; what does not divide, all train together.

    Args:
        outputs: The outputs in the order of their phases.
        fabric: The processes.

    Attributes:
        holders: Output -> rank of the process that trains it alone.
        mine: The outputs that this process trains, in order.
    """

    def __init__(self, outputs: Sequence[int], fabric: Fabric) -> None:
        self.fabric = fabric
        divided = len(outputs) - len(outputs) % fabric.world_size
        self.holders = {output: place % fabric.world_size for place, output in enumerate(outputs[:divided])}
        alone = [output for output, rank in self.holders.items() if rank == fabric.global_rank]
        self.mine = [*alone, *outputs[divided:]]

    def together(self, output: int | None) -> bool:
        """Whether all processes share the batches of an output's phase, or of the fusion (None)."""
        return output not in self.holders

    def agree_on_scale(self) -> None:
        """Give all processes one loss scale, before they share batches."""
        precision = self.fabric.strategy.precision
        if self.fabric.world_size > 1:
            held = [precision.state_dict()]
            dist.broadcast_object_list(held, 0)
            precision.load_state_dict(held[0])

    def gather(self, copies: Copies, like: Mapping[str, Tensor], importance: Importance | None) -> None:
        """Give every process what the phases of the others have left.

        Args:
            copies: What the phases of this process have left.
            like: Tensors of the same names and shapes, in the same order on all processes.
            importance: The importance variables, if the method has any.
        """
        copies.exchange(like, self.holders)
        if self.fabric.world_size > 1 and importance is not None:
            for output, rank in self.holders.items():
                for nu in importance.own(output):
                    broadcast([nu], rank)
