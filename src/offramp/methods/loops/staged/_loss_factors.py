"""Factors of the losses in the phase of an output, found from the losses themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from offramp.data.batch import Batch
from offramp.methods.loops.progress import Progress
from offramp.methods.loops.staged._output_training import OutputTraining
from offramp.modes import measuring

__all__ = ["equal_norms", "landscape_rates"]

BATCHES = 4
POINTS = 20
MEMORY = 0.9  # fraction of the old norms that an epoch keeps


def landscape_rates(
    training: OutputTraining, output: int, progress: Progress, *, cap: float, weights: Sequence[float]
) -> list[float]:
    """Rates from an output's own loss along a gradient step of each other output, before its phase.

    For every other output i, the output's loss is looked at in 20 points between -cap and cap steps of
    gradient descent on its weighted f_i, all on the same few batches. The rate is where it is lowest, or 0 if
    that is backwards. The rule explains every rate in logs that DR-MGF's authors left; the paper does not
    tell it. Where one of the two outputs has no target in these batches the rate is `cap`, as in the first
    epoch.

    Returns:
        One rate for each output, from 0 to `cap`; that of the output itself is not used.
    """
    context = training.context
    batches = list(context.batches(progress.epoch, BATCHES))
    trained = {name: p for name, p in context.net.named_parameters() if p.requires_grad}
    points = torch.linspace(-cap, cap, POINTS, dtype=torch.float64).tolist()
    rates = [cap] * len(context.tasks)
    seen = _with_target(training, batches)
    with measuring(context.net):  # between two points a loss moves by less than dropout makes it
        for other in seen if output in seen else ():
            if other == output:
                continue
            gradient = _gradient(training, output, other, progress, batches, trained)
            step = progress.lr * weights[other]
            losses = []
            for point in points:
                moved = {n: trained[n].detach() - point * step * g for n, g in gradient.items()}
                with torch.no_grad():
                    losses.append(_loss(training, output, output, progress, batches, moved).item())
            rates[other] = max(0.0, points[losses.index(min(losses))])
    return rates


def equal_norms(training: OutputTraining, progress: Progress) -> list[float]:
    """Factors that give all losses equally long gradients on the shared parameters of the plain net.

    The norms are those on a few batches, averaged over the epochs; the factors keep the norms' mean. They are
    found once an epoch. An output without a target in these batches keeps the norm that it had, and has the
    factor 1 as long as it had none.
    """
    context = training.context
    if training.norms.get("epoch") != progress.epoch:
        batches = list(context.batches(progress.epoch, BATCHES))
        weights = {n: p for n, p in context.net.named_parameters() if n in training.shared}
        values = list(training.norms.get("values", [0.0] * len(context.tasks)))
        with measuring(context.net):
            for k in _with_target(training, batches):
                gradient = _gradient(training, None, k, progress, batches, weights)
                norm = sum(float(g.square().sum()) for g in gradient.values()) ** 0.5
                values[k] = MEMORY * (values[k] or norm) + (1 - MEMORY) * norm
        training.norms = {"epoch": progress.epoch, "values": values}
    norms = training.norms["values"]
    known = [norm for norm in norms if norm > 0]  # a loss may reach nothing that is shared
    return [sum(known) / len(known) / norm if norm > 0 else 1.0 for norm in norms]


def _with_target(training: OutputTraining, batches: list[Batch]) -> list[int]:
    """Outputs that have a target in at least one of the batches."""
    targets = {name for batch in batches for name in batch.targets}
    return [k for k, task in enumerate(training.context.tasks) if task.target in targets]


def _gradient(
    training: OutputTraining,
    output: int | None,
    other: int,
    progress: Progress,
    batches: list[Batch],
    weights: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Gradient of another output's mean loss with respect to the weights that it reaches."""
    value = _loss(training, output, other, progress, batches, {})
    if not value.requires_grad:  # the loss has no weight
        return {}
    grads = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
    return {name: grad for name, grad in zip(weights, grads, strict=True) if grad is not None}


def _loss(
    training: OutputTraining,
    output: int | None,
    other: int,
    progress: Progress,
    batches: list[Batch],
    parameters: Mapping[str, Tensor],
) -> Tensor:
    """Mean loss of another output over the batches that have its target.

    The net runs as in the phase of the first output; if that is None, without gates.
    """
    losses = []
    for batch in batches:
        if output is None:
            step = training.context.forward(batch, progress, together=False)
        else:
            step = training.forward(output, batch, progress, parameters=parameters)
        of_outputs = dict(zip(step.present, training.context.bound.losses_of(step), strict=True))
        if other in of_outputs:
            losses.append(of_outputs[other])
    return torch.stack(losses).mean()
