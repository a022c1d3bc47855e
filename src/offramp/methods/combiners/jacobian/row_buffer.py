"""Where gradients go as the backward passes of a step give them: into rows, or into ``.grad``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import torch
from torch import Tensor, nn

from offramp.distributed.collectives import total
from offramp.methods.combiners.backward import Backward
from offramp.methods.combiners.jacobian._passes import BackwardPass
from offramp.methods.combiners.jacobian.groups import ParameterGroup
from offramp.methods.combiners.jacobian.row_block import Row, accumulate
from offramp.tasks.task import wide

__all__ = ["RowBuffer", "average", "average_gradients", "average_grads"]


class RowBuffer:
    """Keeps the gradients of some parameters loss by loss; those of all others go into ``.grad``.

    Args:
        kept: The parameters whose gradients are kept.
        losses: K scalars.
        backward: Their scale, and how to average over processes.
        rows: What was kept of the micro-batches before, to add to.
    """

    def __init__(
        self,
        kept: Collection[Tensor],
        losses: Sequence[Tensor],
        backward: Backward,
        rows: list[dict[Tensor, Tensor]] | None = None,
    ) -> None:
        self.kept, self.backward = kept, backward
        self.live = [loss.requires_grad for loss in losses]
        self.rows: list[dict[Tensor, Tensor]] = rows or [{} for _ in losses]

    def take(self, done: BackwardPass, grads: list[Tensor | None]) -> None:
        """Take over the gradients of a pass that has run; the list is empty afterwards."""
        row = self.rows[done.loss]
        for parameter, grad in zip(done.parameters, grads, strict=True):
            if grad is None:
                continue
            if parameter not in self.kept:
                accumulate(parameter, grad)
            elif parameter in row:
                row[parameter] = wide(row[parameter]).add_(grad)
            else:
                row[parameter] = grad
        grads.clear()

    def owners(self, group: ParameterGroup) -> tuple[int, ...]:
        """Owners of the group that have a gradient on any of its parameters in this step."""
        if self.backward.average is not None:  # what every process can know, or one would wait for another
            return tuple(j for j in group.owners if self.live[j])
        return tuple(j for j in group.owners if any(p in self.rows[j] for p in group.parameters))

    def pop(self, owner: int, parameters: Sequence[Tensor]) -> Row:
        """Remove a finished row and return it: mean over processes, loss scale removed, float32 or wider."""
        row: Row = [self.rows[owner].pop(p, None) for p in parameters]
        if self.backward.average is not None:
            row = list(average(row, parameters, self.backward.average))
        row = [None if g is None else wide(g) for g in row]
        nonzero = [g for g in row if g is not None]
        if self.backward.scale != 1 and nonzero:
            torch._foreach_mul_(nonzero, 1 / self.backward.scale)
        return row


def average(
    grads: Iterable[Tensor | None], parameters: Sequence[Tensor], mean: Callable[[Tensor], None]
) -> list[Tensor]:
    """Mean of gradients over the processes, by one message; None counts as zeros."""
    whole = [torch.zeros_like(p) if g is None else g for g, p in zip(grads, parameters, strict=True)]
    flat = torch.cat([g.reshape(-1) for g in whole])
    mean(flat)
    return [
        g.view_as(p) for g, p in zip(flat.split([p.numel() for p in parameters]), parameters, strict=True)
    ]


def average_grads(parameters: Sequence[Tensor], backward: Backward) -> None:
    """Average ``.grad`` over the processes. What earlier batches left there is equal on all and stays."""
    if backward.average is not None and parameters:
        grads = average([p.grad for p in parameters], parameters, backward.average)
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad


def average_gradients(net: nn.Module, backward: Backward) -> None:
    """Average ``.grad`` over the processes, of every parameter that has one in any of them."""
    if backward.average is None:  # one process
        return
    parameters = [p for p in net.parameters() if p.requires_grad]
    if not parameters:
        return
    has_one = torch.tensor([p.grad is not None for p in parameters], device=parameters[0].device)
    anywhere = total(has_one.int()).tolist()
    average_grads([p for p, count in zip(parameters, anywhere, strict=True) if count], backward)
