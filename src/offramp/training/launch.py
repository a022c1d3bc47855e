"""Devices, precision and processes, all of them Lightning Fabric's."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.func import functional_call

from offramp.errors import UserError
from offramp.nets import Net
from offramp.training.memory import keep_freed_memory
from offramp.training.processes import share
from offramp.training.recipe import Recipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["launch", "place"]


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
        raise UserError(f"no device {device!r} here; choose auto or {', '.join(here)}")
    device = here[0] if device == "auto" else device
    if device == "cpu":
        keep_freed_memory()
    plugin: Precision
    if precision == "fp16":  # given as a plugin: by name, Fabric turns it into bf16 on a CPU
        plugin = MixedPrecision("16-mixed", device, torch.amp.GradScaler(device))
    elif precision == "bf16":
        plugin = MixedPrecision("bf16-mixed", device)
    else:
        plugin = Precision()
    processes = int(os.environ.get("WORLD_SIZE", "1")) if torch.distributed.is_torchelastic_launched() else 1
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if processes > 1 else 1
    fabric = Fabric(
        accelerator=device,
        devices=local,
        num_nodes=processes // local,
        strategy="ddp" if processes > 1 else "auto",
        plugins=[plugin],
    )
    fabric.launch()
    return fabric


def place(net: Net, recipe: Recipe, fabric: Fabric, *, plain_backward: bool) -> Callable[..., Any]:
    """Move a net to its device and memory format, in place.

    Args:
        net: The net, which keeps its parameters and their names.
        recipe: Memory format, and whether to compile.
        fabric: Device, precision and processes.
        plain_backward: Whether gradients come from Fabric's backward passes, which average them over the
            processes. If not, the processes only start from equal weights.

    Returns:
        What to call in the net's stead while training: it adds autocast, and data parallelism to
        plain backward passes. Without these it also takes ``tensors``, name by name in the place of
        parameters.
    """
    net.to(fabric.device)
    if recipe.channels_last:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model: Callable[..., Any] = torch.compile(net) if recipe.compile else net
    if plain_backward:
        return fabric.setup_module(model)  # type: ignore[arg-type]
    share([*net.parameters(), *net.buffers()], fabric)

    names = _names(net)

    def substituted(tensors: dict[str, Tensor], inputs: Any, options: Any) -> Any:
        everywhere = {name: tensor for first, tensor in tensors.items() for name in names[first]}
        return functional_call(net, everywhere, inputs, options, tie_weights=False)

    with_tensors = torch.compile(substituted) if recipe.compile else substituted

    def forward(*inputs: Any, tensors: dict[str, Tensor] | None = None, **options: Any) -> Any:
        with fabric.autocast():
            return model(*inputs, **options) if tensors is None else with_tensors(tensors, inputs, options)

    return forward


def _names(net: Net) -> dict[str, list[str]]:
    """First name of each parameter -> all its names, one for each module that has it.

    What ``functional_call`` ties by itself it swaps once for each name, also where a module just comes twice.
    """
    first = {id(parameter): name for name, parameter in net.named_parameters()}
    found: dict[str, list[str]] = {name: [] for name in first.values()}
    for path, module in net.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            found[first[id(parameter)]].append(f"{path}.{name}" if path else name)
    return found
