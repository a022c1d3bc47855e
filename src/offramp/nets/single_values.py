"""Norm layers that get a single value to normalise, named where torch tells only the shape."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from offramp.errors import UserError

__all__ = ["norms_named"]

# what torch's norm layers say about one value, and about one pixel, per channel
_ONE_VALUE, _ONE_PIXEL = "Expected more than 1 value per channel", "Expected more than 1 spatial element"


@contextmanager
def norms_named(net: nn.Module, images: int | None = None, remedy: str = "") -> Iterator[None]:
    """Name the norm layer of the net that gets a single value to normalise in the ``with`` block.

    Args:
        net: The net.
        images: How many it gets at a time; None if that is not for the user to say.
        remedy: How to give it two or more.

    Raises:
        UserError: In place of what torch raises.
    """
    entered = [""]
    with ExitStack() as stack:
        for name, module in net.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
                hook = module.register_forward_pre_hook(lambda _, args, name=name: entered.append(name))
                stack.callback(hook.remove)
        try:
            yield
        except ValueError as error:
            if _ONE_VALUE not in str(error) and _ONE_PIXEL not in str(error):
                raise
            norm = net.get_submodule(entered[-1])
            place = f"{entered[-1]} ({type(norm).__name__})"
            if images == 1 and isinstance(norm, _BatchNorm):
                raise UserError(
                    f"{place} normalises over the batch, and gets one value per channel from one image at a "
                    f"time; two or more are needed for each process and micro-batch: {remedy}"
                ) from None
            raise UserError(
                f"{place} normalises over pixels, and its feature is 1x1; "
                "take larger images, or another norm layer there"
            ) from None
