"""Gradient of every output on the weights that it shares, for one batch, without a trace in the net."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from offramp.analysis.filters import shared_owners
from offramp.data.batch import Batch
from offramp.methods.by_parts import ForwardByParts
from offramp.methods.objectives import Step, TaskLoss
from offramp.nets import Net

__all__ = ["TaskGradients", "task_gradients"]


@dataclass(frozen=True)
class TaskGradients:
    """The K losses of one batch and their gradients on the shared weights.

    Attributes:
        losses: The K losses.
        gradients: For every output, the gradient of its loss on each parameter that it shares; by name.
        losses_now: The K losses on the same batch at the weights that the net has when it is called.
    """

    losses: tuple[float, ...]
    gradients: tuple[Mapping[str, Tensor], ...]
    losses_now: Callable[[], tuple[float, ...]]


def task_gradients(
    net: Net,
    batch: Batch,
    *,
    owners: Mapping[str, Sequence[int]] | None = None,
    objective: Callable[[Step], Sequence[Tensor]] = TaskLoss(),  # noqa: B008  (frozen)
) -> TaskGradients:
    """The gradients of the K losses of one batch, each on the shared weights that its output owns.

    Costs one forward pass and one backward pass per output.

    Args:
        net: The net, in the mode in which it is to be measured; see :func:`~offramp.modes.measuring`.
        batch: The samples; every output has a target for some of them.
        owners: As :func:`~offramp.analysis.filters.shared_owners` finds them, found anew by default.
        objective: A step's K losses.

    Raises:
        UserError: The outputs share nothing.
    """
    owners = shared_owners(net) if owners is None else owners
    parameters = dict(net.named_parameters())

    tasks, forward = [*net.outputs.values()], ForwardByParts(net)

    def losses() -> Sequence[Tensor]:
        outputs, _, _ = forward(batch, tasks, lambda part: (net(part.inputs), None, None))
        return objective(Step(net, outputs, tasks, batch.targets))

    def losses_now() -> tuple[float, ...]:
        with torch.no_grad():
            return tuple(loss.item() for loss in losses())

    with torch.enable_grad():
        batch_losses = losses()
    gradients = []
    for k, loss in enumerate(batch_losses):
        own = [name for name, ks in owners.items() if k in ks]
        values = (
            torch.autograd.grad(
                loss, [parameters[name] for name in own], retain_graph=True, materialize_grads=True
            )
            if own
            else ()
        )
        gradients.append(dict(zip(own, values, strict=True)))
    return TaskGradients(tuple(loss.item() for loss in batch_losses), tuple(gradients), losses_now)
