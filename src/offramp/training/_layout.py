"""The memory format that a net is trained in."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from offramp.errors import UserError
from offramp.nets import Net
from offramp.nets.sample import sample_of
from offramp.recipes.recipe import Recipe
from offramp.unchanged import unchanged

__all__ = ["with_layout"]


def with_layout(recipe: Recipe, net: Net, record: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe with ``channels_last`` decided.

    Args:
        recipe: Where it says nothing, the record decides, and without one the net.
        net: Channels-last is taken if it has 2-D convolutions that are wider than their stride (the others
            cut patches, and a matrix product follows), and runs in that format.
        record: ``run.json`` of the run that goes on.

    Raises:
        UserError: The recipe asks for channels-last, and the net cannot be trained in it.
    """
    if recipe.channels_last is None:
        if record is not None:
            return recipe.replace(channels_last=record["recipe"]["channels_last"])
        overlaps = any(_overlaps(module) for module in net.modules())
        return recipe.replace(channels_last=overlaps and _trouble(net) is None)
    if recipe.channels_last and (trouble := _trouble(net)):
        raise UserError(f"channels_last does not work with this net: {trouble}; leave channels_last out")
    return recipe


def _overlaps(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and any(
        size > step for size, step in zip(module.kernel_size, module.stride, strict=True)
    )


def _trouble(net: Net) -> str | None:
    """Why the net cannot be trained in the channels-last format, if so."""
    for name, tensor in itertools.chain(net.named_parameters(), net.named_buffers()):
        if tensor.dim() == 5:
            return f"{name} has 5 dimensions"
    images = sample_of(net, 2)
    if not isinstance(images, Tensor) or images.dim() != 4:
        return "its input is no [N, C, H, W]"
    try:
        with unchanged(net), torch.no_grad():
            net.eval()
            net(images.contiguous(memory_format=torch.channels_last))
    except (RuntimeError, ValueError) as error:  # e.g. of a `view` that flattens a feature
        return str(error).split("\n")[0].rstrip(".")
    return None
