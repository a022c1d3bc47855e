"""The first step's forward pass, run once before anything is trained or written."""

from __future__ import annotations

import dataclasses

from offramp.errors import UserError
from offramp.methods.loops import LoopContext, Progress
from offramp.nets.single_values import norms_named
from offramp.unchanged import unchanged

__all__ = ["rehearse"]


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
    with unchanged(net, context.bound), norms_named(net, images, remedy):
        batch = next(context.batches(0, 1)).first(min(images, 2))
        plain = dataclasses.replace(context, model=net, compiled=False)  # nothing is compiled for two images
        losses = context.bound.losses_of(plain.forward(batch, progress, together=False))
    if not any(loss.requires_grad for loss in losses):
        raise UserError(
            "all that the losses reach is frozen, so that there is nothing to train; unfreeze a part of the "
            "net with requires_grad_(True), or give an exit that has one a weight above 0"
        )
