"""The first step's forward pass, run once before anything is trained or written."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from offramp.errors import UserError
from offramp.methods.loops import LoopContext, Progress
from offramp.unchanged import unchanged

__all__ = ["rehearse"]

# what torch's norm layers say in training mode about one value, and about one pixel, per channel
_ONE_VALUE, _ONE_PIXEL = "Expected more than 1 value per channel", "Expected more than 1 spatial element"


def rehearse(context: LoopContext, images: int, progress: Progress, remedy: str) -> None:
    """Run a forward pass and the losses as the first step will, and leave everything as it was.

    Args:
        context: What the loop works with; its net is in the modes that it is trained in.
        images: How many the net gets at a time in this process.
        progress: The run's first.
        remedy: How to give the net two images or more at a time.

    Raises:
        UserError: A norm layer has a single value to normalise, or no loss reaches anything trainable.
    """
    net = context.net
    entered = [""]
    with unchanged(net, context.bound):
        for name, module in net.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
                module.register_forward_pre_hook(lambda _, args, name=name: entered.append(name))
        batch = next(context.batches(0, 1)).first(min(images, 2))
        plain = dataclasses.replace(context, model=net, compiled=False)  # nothing is compiled for two images
        try:
            losses = context.bound.losses_of(plain.forward(batch, progress, together=False))
        except ValueError as error:
            if _ONE_VALUE not in str(error) and _ONE_PIXEL not in str(error):
                raise
            raise UserError(
                _about_norm(entered[-1], net.get_submodule(entered[-1]), images, remedy)
            ) from None
    if not any(loss.requires_grad for loss in losses):
        raise UserError(
            "all that the losses reach is frozen, so that there is nothing to train; unfreeze a part of the "
            "net with requires_grad_(True), or give an exit that has one a weight above 0"
        )


def _about_norm(name: str, norm: nn.Module, images: int, remedy: str) -> str:
    what = f"{name} ({type(norm).__name__})"
    if images > 1:
        return (
            f"{what} normalises over pixels, and its feature is 1x1; "
            "train on larger images, or take another norm layer there"
        )
    return (
        f"{what} normalises over the batch, and gets one value per channel from one image at a time; "
        f"two or more are needed for each process and micro-batch: {remedy}"
    )
