"""How much a stage heeds the tasks that are not its own, found from the losses themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from offramp.data.batch import Batch
from offramp.methods.loops.loop import Progress
from offramp.methods.loops.stage import Stage
from offramp.modes import measuring

__all__ = ["equal_norms", "landscape_rates"]

BATCHES = 4
POINTS = 20
MEMORY = 0.9  # share of the old norms that an epoch keeps


def landscape_rates(
    stage: Stage, task: int, progress: Progress, *, cap: float, weights: Sequence[float]
) -> list[float]:
    """Rates from the task's own loss along a step of each other task, at the beginning of a stage.

    For every other task i, the task's loss is looked at in 20 points between -cap and cap steps of gradient
    descent on its weighted f_i, all on the same few batches. The rate is where it is lowest, or 0 if that is
    backwards. The rule explains every rate in logs that DR-MGF's authors left; the paper does not tell it.

    Returns:
        One rate for each task, from 0 to `cap`; that of the task itself is not used.
    """
    context = stage.context
    batches = list(context.batches(progress.epoch, BATCHES))
    trained = {name: p for name, p in context.net.named_parameters() if p.requires_grad}
    points = torch.linspace(-cap, cap, POINTS, dtype=torch.float64).tolist()
    rates = [0.0] * len(context.net.outputs)
    with measuring(context.net):  # between two points a loss moves by less than dropout makes it
        for other in range(len(rates)):
            if other == task:
                continue
            uphill = _gradient(stage, task, other, progress, batches, trained)
            step = progress.lr * weights[other]
            losses = []
            for point in points:
                moved = {n: p.detach() - point * step * uphill[n] for n, p in trained.items() if n in uphill}
                with torch.no_grad():
                    losses.append(_loss(stage, task, task, progress, batches, moved).item())
            rates[other] = max(0.0, points[losses.index(min(losses))])
    return rates


def equal_norms(stage: Stage, progress: Progress) -> list[float]:
    """Factors that give all losses equally long gradients on the shared parameters of the plain net.

    The norms are those on a few batches, averaged over the epochs; the factors keep the norms' mean. They are
    found once an epoch.
    """
    context = stage.context
    if stage.norms.get("epoch") != progress.epoch:
        batches = list(context.batches(progress.epoch, BATCHES))
        weights = {n: p for n, p in context.net.named_parameters() if n in stage.shared}
        found = []
        with measuring(context.net):
            for task in range(len(context.net.outputs)):
                gradient = _gradient(stage, None, task, progress, batches, weights)
                found.append(sum(float(g.square().sum()) for g in gradient.values()) ** 0.5)
        old = stage.norms.get("values", found)
        values = [MEMORY * o + (1 - MEMORY) * new for o, new in zip(old, found, strict=True)]
        stage.norms = {"epoch": progress.epoch, "values": values}
    norms = stage.norms["values"]
    some = [norm for norm in norms if norm > 0]  # a loss may reach nothing that is shared
    return [sum(some) / len(some) / norm if norm > 0 else 1.0 for norm in norms]


def _gradient(
    stage: Stage,
    task: int | None,
    loss: int,
    progress: Progress,
    batches: list[Batch],
    weights: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """The mean gradient of one loss, of the weights that it reaches."""
    value = _loss(stage, task, loss, progress, batches, {})
    grads = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
    return {name: grad for name, grad in zip(weights, grads, strict=True) if grad is not None}


def _loss(
    stage: Stage,
    task: int | None,
    loss: int,
    progress: Progress,
    batches: list[Batch],
    moved: Mapping[str, Tensor],
) -> Tensor:
    """The mean of one loss over the batches; through the gates of a task, or those of none."""
    found = []
    for batch in batches:
        if task is None:
            step = stage.context.forward(batch, progress, together=False)
        else:
            step = stage.forward(task, batch, progress, moved=moved)
        found.append(stage.context.bound.losses_of(step)[loss])
    return torch.stack(found).mean()
