"""The first step's forward pass, run once before anything is trained or written."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from offramp.errors import UserError, shown
from offramp.methods.loops import LoopContext, Progress
from offramp.nets.plain_weights import check_dense
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
        UserError: There is not one image for each part of a batch; a norm layer has a single value to
            normalise; an embedding has sparse gradients; no loss reaches anything trainable; or none reaches
            a part whose gradient other processes wait for.
    """
    net = context.net
    check_dense(net)
    if not images:
        raise UserError(f"the method cuts each batch, and there is not a sample for each part; {remedy}")
    with unchanged(net, context.bound), norms_named(net, images, remedy):
        batch = next(context.batches(0, 1)).first(min(images, 2))
        plain = dataclasses.replace(context, model=net, compiled=False)  # nothing is compiled for two images
        step = plain.forward(batch, progress, together=False)
        losses = context.bound.losses_of(step)
        if isinstance(context.model, nn.Module) and context.fabric.world_size > 1:
            _check_reached(net, losses)
    weights = context.bound.weights or [1.0] * len(step.outputs)
    # of these outputs other batches have targets
    absent = [out for k, out in enumerate(step.outputs) if k not in step.present and weights[k]]
    if not any(tensor.requires_grad for tensor in (*losses, *absent)):
        raise UserError(
            "all that the losses reach is frozen, so that there is nothing to train; unfreeze a part of the "
            "net with requires_grad_(True), or give an exit that has one a weight above 0"
        )


def _check_reached(net: nn.Module, losses: Sequence[Tensor]) -> None:
    """DistributedDataParallel waits in each step for the gradient of everything that is trained."""
    trained = {name: p for name, p in net.named_parameters() if p.requires_grad}
    reaching = [loss for loss in losses if loss.requires_grad]
    if not reaching or not trained:
        return
    gradients = torch.autograd.grad(reaching, [*trained.values()], allow_unused=True)
    missed = [name for name, gradient in zip(trained, gradients, strict=True) if gradient is None]
    if missed:
        raise UserError(
            f"no loss reaches {shown(missed)}, for whose gradients several processes would wait; "
            "train in one process, without torchrun, or freeze these parts with requires_grad_(False)"
        )
