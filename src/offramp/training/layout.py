"""Which memory format a net is trained in."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from offramp.errors import UserError
from offramp.nets import Net
from offramp.training.recipe import Recipe
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
        UserError: The recipe asks for channels-last, and a parameter or buffer has five dimensions.
    """
    wide = [name for name, t in itertools.chain(net.named_parameters(), net.named_buffers()) if t.dim() == 5]
    if recipe.channels_last and wide:  # torch's error names neither the tensor nor the setting
        raise UserError(f"{wide[0]} has 5 dimensions, channels_last is for 4; leave channels_last out")
    if recipe.channels_last is not None:
        return recipe
    if record is not None:
        return recipe.replace(channels_last=record["recipe"]["channels_last"])
    overlaps = any(_overlaps(module) for module in net.modules())
    return recipe.replace(channels_last=overlaps and not wide and _runs(net))


def _overlaps(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and any(
        size > step for size, step in zip(module.kernel_size, module.stride, strict=True)
    )


def _runs(net: Net) -> bool:
    """Whether a forward pass works on channels-last images: a flattening ``view`` of a feature does not."""
    images = net.sample(2)
    if not isinstance(images, Tensor) or images.dim() != 4:
        return False
    try:
        with unchanged(net), torch.no_grad():
            net.eval()
            net(images.contiguous(memory_format=torch.channels_last))
    except (RuntimeError, ValueError):
        return False  # if the format is not to blame, training will say what is
    return True
