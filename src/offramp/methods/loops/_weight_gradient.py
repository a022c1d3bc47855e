"""The gradient of learned weights of losses, through one virtual step of the net's optimiser."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from offramp.data.batch import Batch
from offramp.distributed.collectives import mean, mean_all, total, world_size
from offramp.errors import UserError, error_text, shown
from offramp.methods.loops._virtual_step import virtual_step
from offramp.methods.loops.context import LoopContext
from offramp.methods.loops.progress import Progress
from offramp.methods.objectives import Step
from offramp.methods.seeded import seeded
from offramp.modes import buffers_copied, buffers_kept

__all__ = ["weight_gradient"]

# what torch says where there is no second derivative
NONE = ("is not implemented", "once_differentiable", "double backward", "create_graph")


def weight_gradient(
    context: LoopContext,
    optimizer: torch.optim.Optimizer,
    step: Step,
    batch: Batch,
    progress: Progress,
    number: int,
) -> Tensor | None:
    """Differentiate the outer loss after a virtual step by the learned weights.

    Args:
        context: The net, the method and the means to train.
        optimizer: The recipe's, at the step's learning rates.
        step: The pass over the training batch; its graph is kept.
        batch: The samples of the outer loss.
        progress: How far the training is.
        number: Seeds what the pass over these samples draws.

    Returns:
        The gradient of all learned numbers, the mean over the processes; None where no outer loss has a
        target.

    Raises:
        UserError: A layer of the net has no second derivative.
    """
    bound, scale = context.bound, context.scale()
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    trial = dataclasses.replace(step, trial=True)
    with _second_derivatives(bound.method.name):
        with buffers_kept(bound), bound.learner.learned.differentiated() as values:
            losses = bound.balanced(bound.losses_of(trial), trial)
            loss = scale * torch.stack(losses).sum()
            gradients = torch.autograd.grad(loss, trained, create_graph=True, allow_unused=True)
        leaves = _leaves(trained, gradients, scale)
        moved = virtual_step(optimizer, leaves, context.clip)
        outer = _outer_loss(context, moved, batch, progress, number)
        if outer is None:
            return None
        direction = dict(zip(leaves, _averaged_slopes(scale * outer, leaves, scale), strict=True))
        # of the weights' size, which half precision can carry through the net; a gradient is linear in it
        size = _norm(direction.values())
        longer = torch.where(size > 0, _norm(leaves) / size, 1)
        pairs = [(g, longer * direction[p]) for p, g in zip(trained, gradients, strict=True) if g is not None]
        rows, along = zip(*pairs, strict=True)
        (gradient,) = torch.autograd.grad(rows, values, along)
    return mean(gradient / (longer * scale))


def _leaves(
    trained: Sequence[Tensor], gradients: Sequence[Tensor | None], scale: float
) -> dict[Tensor, Tensor]:
    """Parameter -> its gradient over all processes, cut off from its graph; of those that have one in any."""
    there = torch.tensor([g is not None for g in gradients], device=trained[0].device)
    anywhere = total(there.int()).tolist() if world_size() > 1 else there.tolist()
    leaves = {
        p: torch.zeros_like(p) if g is None else g.detach() / scale
        for p, g, count in zip(trained, gradients, anywhere, strict=True)
        if count
    }
    mean_all(leaves.values())
    return {p: leaf.requires_grad_() for p, leaf in leaves.items()}


def _outer_loss(
    context: LoopContext, moved: Mapping[Tensor, Tensor], batch: Batch, progress: Progress, number: int
) -> Tensor | None:
    """The outer loss after the virtual step, of a pass that leaves no trace."""
    bound, net = context.bound, context.net
    tensors = {name: moved[p] for name, p in net.named_parameters() if p in moved}
    draws = seeded(context.fabric.device, context.seed, "outer", number)
    with draws, buffers_copied(net), buffers_kept(bound):
        step = context.forward(batch, progress, tensors=tensors)
        if not step.present:
            return None
        return bound.learner.outer(step, bound.weights or [1.0] * len(step.outputs))


def _averaged_slopes(loss: Tensor, leaves: Mapping[Tensor, Tensor], scale: float) -> list[Tensor]:
    """Gradient of a scaled loss by the leaves, over all processes; zeros where it does not depend on one."""
    found = torch.autograd.grad(loss, [*leaves.values()], allow_unused=True)
    slopes = [
        torch.zeros_like(leaf) if slope is None else slope / scale
        for leaf, slope in zip(leaves.values(), found, strict=True)
    ]
    mean_all(slopes)
    return slopes


def _norm(tensors: Iterable[Tensor]) -> Tensor:
    norm: Tensor = torch.stack([tensor.detach().norm() for tensor in tensors]).norm()
    return norm


@contextmanager
def _second_derivatives(method: str) -> Iterator[None]:
    """Name the method where a layer of the net has no second derivative.

    Raises:
        UserError: One has none.
    """
    try:
        yield
    except RuntimeError as error:
        if any(words in str(error) for words in NONE):
            raise UserError(
                f"{shown(method)} goes back through a backward pass, and a layer of this net has no second "
                f"derivative ({error_text(error)}); take another method, e.g. uncertainty"
            ) from None
        raise
