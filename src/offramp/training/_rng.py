"""torch's global random numbers (dropout draws from them), one state per process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from offramp.distributed import collectives
from offramp.errors import UserError
from offramp.stored_values import check_like

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["gather", "restore"]


def gather(fabric: Fabric) -> dict[str, Tensor]:
    """The states of all processes: device type -> uint8 ``[processes, bytes]``, on the CPU."""
    states = {"cpu": torch.get_rng_state()}
    if fabric.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(fabric.device)
    return {kind: torch.stack(collectives.gather(state)) for kind, state in states.items()}


def restore(states: dict[str, Tensor], fabric: Fabric) -> None:
    """Put every process's state back.

    Raises:
        UserError: The run had another number of processes.
        ValueError: It is no state of random numbers.
    """
    if not isinstance(states["cpu"], Tensor) or not states["cpu"].dim():
        raise ValueError("rng.cpu is no state of random numbers")
    processes = len(states["cpu"])
    if processes != fabric.world_size:
        raise UserError(
            f"the run was started with {processes} processes, not {fabric.world_size}; "
            f"go on with torchrun --nproc-per-node {processes}"
        )
    # clones: torch reads a state from the start of its storage, whatever the offset of the view
    mine = {kind: state[fabric.global_rank].clone() for kind, state in states.items()}
    check_like(mine["cpu"], torch.get_rng_state(), "rng")
    torch.set_rng_state(mine["cpu"])
    if "cuda" in mine and fabric.device.type == "cuda":
        torch.cuda.set_rng_state(mine["cuda"], fabric.device)
