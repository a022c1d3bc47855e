"""The gradient of learned weights of losses, through one virtual step of the net's optimiser."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from offramp.data.batch import Batch
from offramp.distributed.collectives import mean, mean_all, total, world_size
from offramp.forks import uncut
from offramp.methods.bound import BoundMethod
from offramp.methods.loops._virtual_step import virtual_step
from offramp.methods.loops.context import LoopContext
from offramp.methods.loops.progress import Progress
from offramp.methods.objectives import Step
from offramp.methods.seeded import seeded
from offramp.modes import buffers_copied, buffers_kept

__all__ = ["gradients_with_graph", "trained_by", "weight_gradient"]


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
        number: How many steps there were before; it seeds what the pass over these samples draws.

    Returns:
        The gradient of all learned numbers, the mean over the processes; None where nothing counts that has
        a target.
    """
    bound, scale = context.bound, context.scale()
    found = gradients_with_graph(bound, step, trained_by(optimizer), scale)
    if found is None:
        return None
    values, gradients = found
    leaves = _leaves(gradients, scale)
    outer = _outer_loss(context, virtual_step(optimizer, leaves, context.clip), batch, progress, number)
    if outer is None:
        return None
    direction = dict(zip(leaves, _averaged_slopes(scale * outer, leaves, scale), strict=True))
    # of the weights' size, which half precision can carry through the net; a gradient is linear in it
    size = _norm(direction.values())
    longer = torch.where(size > 0, _norm(leaves) / size, 1)
    # in a process without targets they need not depend on the weights
    rows = {p: row for p, row in gradients.items() if row is not None and row.requires_grad}
    along = [longer * direction[p] for p in rows]
    slope = torch.autograd.grad([*rows.values()], values, along, allow_unused=True)[0] if rows else None
    return mean(torch.zeros_like(values) if slope is None else slope / (longer * scale))


def trained_by(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """All parameters of an optimiser."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def gradients_with_graph(
    bound: BoundMethod, step: Step, parameters: Sequence[Tensor], scale: float = 1.0
) -> tuple[Tensor, dict[Tensor, Tensor | None]] | None:
    """The gradient of a step's weighted losses, as a function of the learned weights.

    Args:
        bound: The method at work; what it remembers stays as it is.
        step: The pass over a training batch; its graph is kept.
        parameters: What the gradient is of.
        scale: What the losses are multiplied by.

    Returns:
        A leaf for the learned numbers, and parameter -> its gradient in a graph from it; None where no loss
        that counts has a target.
    """
    step = dataclasses.replace(step, trial=True)
    with buffers_kept(bound), bound.learner.learned.differentiated() as values:
        losses = bound.balanced(bound.losses_of(step), step)
        loss = scale * torch.stack(losses).sum() if losses else values.detach()
        if not loss.requires_grad:
            return None
        gradients = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    return values, dict(zip(parameters, gradients, strict=True))


def _leaves(gradients: Mapping[Tensor, Tensor | None], scale: float) -> dict[Tensor, Tensor]:
    """Parameter -> its gradient over all processes, cut off from its graph; of those that have one in any."""
    here = [gradient is not None for gradient in gradients.values()]
    device = next(iter(gradients)).device
    anywhere = total(torch.tensor(here, device=device).int()).tolist() if world_size() > 1 else here
    leaves = {
        p: torch.zeros_like(p) if gradient is None else gradient.detach() / scale
        for (p, gradient), there in zip(gradients.items(), anywhere, strict=True)
        if there
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
    with draws, uncut(net), buffers_copied(net), buffers_kept(bound):
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
