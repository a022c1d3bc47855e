"""What a policy reaches on a test set, its samples sent through the router."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from offramp.data.batch import Batch
from offramp.data.smaller_batches import SmallerBatches
from offramp.errors import UserError
from offramp.exits.exit_logits import target_of
from offramp.exits.path_costs import PathCosts
from offramp.exits.policy import Policy
from offramp.exits.router import Router
from offramp.nets import MultiExitNet
from offramp.runs import Run
from offramp.runs.sets import recorded_transform
from offramp.tasks.classification import NO_LABEL

__all__ = ["PolicyResult", "evaluate_policy"]

UNKNOWN = -1  # what stands for operations that are not counted


@dataclass(frozen=True)
class PolicyResult:
    """What a policy reaches on test samples.

    Attributes:
        data: Name of the set.
        top1: Share of right answers, in percent.
        flops: Operations that the router executes for a sample, on average; None where they are unknown, as
            those of texts of other lengths than the net's example.
        static_flops: Operations of the network without inner heads.
        convention: How operations are counted.
        shares: The share of the samples that leaves at each of the K exits.
        exit_top1: Share of right answers among those that leave at each exit, in percent; None where none
            does.
    """

    data: str
    top1: float
    flops: float | None
    static_flops: int | None
    convention: str
    shares: tuple[float, ...]
    exit_top1: tuple[float | None, ...]


def evaluate_policy(run: Run, policy: Policy, data: Any = None, **settings: Any) -> PolicyResult:
    """Send test samples through the router.

    Args:
        run: Whose net it is.
        policy: When samples leave.
        data: As for :meth:`offramp.Run.evaluate`; by default the run's own.
        settings: As there.

    Raises:
        UserError: The net has no exits in a row, the policy is for another net, or the set does not fit.
    """
    target = target_of(run.net)
    net = cast(MultiExitNet, run.net)  # or it has been refused
    router = Router(net, policy)
    opened = run.open_to_evaluate(data, **settings)
    device = next(net.parameters()).device
    parts: list[Tensor] = []
    smaller = SmallerBatches(device)

    def measure(batch: Batch) -> Tensor:
        answer, labels = router(batch.inputs), batch.targets[target]
        cost = torch.full_like(answer.exit, UNKNOWN) if answer.cost is None else answer.cost
        columns = torch.stack([answer.exit, (answer.prediction == labels).long(), cost])
        return columns[:, labels != NO_LABEL].cpu()

    for batch in opened.test.batches(
        run.recipe.batch_size, transform=recorded_transform(run.record), device=device
    ):
        parts += smaller(batch, measure)
    exit, right, cost = torch.cat(parts, 1)
    return _result(opened.name, net, exit, right.double(), cost.double())


def _result(data: str, net: MultiExitNet, exit: Tensor, right: Tensor, cost: Tensor) -> PolicyResult:
    at = [exit == k for k in range(1, net.num_exits + 1)]
    try:
        static = PathCosts(net).static
    except UserError:  # some operations are unknown
        static = None
    return PolicyResult(
        data=data,
        top1=100 * right.mean().item(),
        flops=None if static is None or (cost == UNKNOWN).any() else cost.mean().item(),
        static_flops=static,
        convention=net.convention,
        shares=tuple(here.double().mean().item() for here in at),
        exit_top1=tuple(100 * right[here].mean().item() if here.any() else None for here in at),
    )
