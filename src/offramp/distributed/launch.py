"""Devices, precision and processes, all of them Lightning Fabric's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

from offramp.distributed.peers import wait_for_all
from offramp.errors import UserError, shown

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["is_first", "launch", "num_processes"]


def num_processes() -> int:
    """How many processes ``torchrun`` has started to train together; one without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if torch.distributed.is_torchelastic_launched() else 1


def is_first() -> bool:
    """Whether this process is the first of them, the one that writes."""
    return num_processes() == 1 or os.environ.get("RANK", "0") == "0"


def launch(precision: str, device: str = "auto") -> Fabric:
    """One device, or under ``torchrun`` as many as it started processes for.

    Args:
        precision: ``"fp32"``, or with autocast ``"bf16"`` or ``"fp16"`` (which also scales the loss).
        device: ``"auto"`` (the accelerator if there is one), ``"cpu"``, ``"cuda"`` or ``"mps"``.

    Raises:
        UserError: No such device here.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import MixedPrecision, Precision

    here = [kind for kind in ("cuda", "mps") if getattr(torch, kind).is_available()] + ["cpu"]
    if device not in ("auto", *here):
        raise UserError(f"no device {shown(device)} here; choose auto or {', '.join(here)}")
    device = here[0] if device == "auto" else device
    plugin: Precision
    if precision == "fp16":  # given as a plugin: by name, Fabric turns it into bf16 on a CPU
        plugin = MixedPrecision("16-mixed", device, torch.amp.GradScaler(device))
    elif precision == "bf16":
        plugin = MixedPrecision("bf16-mixed", device)
    else:
        plugin = Precision()
    processes = num_processes()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if processes > 1 else 1
    fabric = Fabric(
        accelerator=device,
        devices=local,
        num_nodes=processes // local,
        strategy="ddp" if processes > 1 else "auto",
        plugins=[plugin],
    )
    wait_for_all()  # where one that has ended is named, and a signal heard
    fabric.launch()
    return fabric
