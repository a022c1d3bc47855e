"""The net on its device: memory format, precision, data parallelism, compilation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.func import functional_call

from offramp.distributed.collectives import broadcast
from offramp.nets import Net
from offramp.recipes.recipe import Recipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["model_of", "place"]


def place(net: Net, recipe: Recipe, fabric: Fabric) -> None:
    """Move a net to its device and memory format, in place; it keeps its parameters and their names."""
    net.to(fabric.device)
    if recipe.channels_last:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def model_of(net: Net, recipe: Recipe, fabric: Fabric, *, plain_backward: bool) -> Callable[..., Any]:
    """What to call in a net's stead while training: it adds autocast, and data parallelism.

    Args:
        net: The net, in its place.
        recipe: Whether to compile.
        fabric: Precision and processes.
        plain_backward: Whether gradients come from Fabric's backward passes, which average them over the
            processes. If not, the processes only start from equal weights.

    Returns:
        The model. Without plain backward passes it also takes ``tensors``, name by name in place of
        parameters, and is not parallel.
    """
    model: Callable[..., Any] = torch.compile(net) if recipe.compile else net
    if plain_backward:
        return fabric.setup_module(model)  # type: ignore[arg-type]
    broadcast([*net.parameters(), *net.buffers()])

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
    first_name = {id(parameter): name for name, parameter in net.named_parameters()}
    names: dict[str, list[str]] = {name: [] for name in first_name.values()}
    for path, module in net.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            names[first_name[id(parameter)]].append(f"{path}.{name}" if path else name)
    return names
