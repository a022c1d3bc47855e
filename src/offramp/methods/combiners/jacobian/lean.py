"""Inner products of gradient rows without keeping the rows, and backward passes with weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from offramp.methods.combiners.backward import Backward
from offramp.methods.combiners.jacobian.block import accumulate, gramian
from offramp.methods.combiners.jacobian.groups import Group
from offramp.methods.combiners.jacobian.passes import plan_passes
from offramp.methods.combiners.jacobian.rows import Rows, average
from offramp.methods.combiners.jacobian.run import run_passes, unshared

__all__ = ["LeanBlock", "lean_blocks", "pull"]


@dataclass(frozen=True)
class LeanBlock:
    """What is left of a group's rows: their inner products, and the graph to combine them through.

    Attributes:
        owners: The outputs (0-based) whose losses have a row.
        group: The owners of the group, among them those without a row in this step.
        parameters: The group's parameters.
        products: The rows' inner products, ``[m, m]``, float64, on the CPU.
        losses: All K losses, or their stand-ins, whose graph is still there.
        backward: Their scale, and how to average over processes.
        keep_graph: Whether another block needs the graph after this one.
    """

    owners: tuple[int, ...]
    group: tuple[int, ...]
    parameters: list[Tensor]
    products: Tensor
    losses: Sequence[Tensor]
    backward: Backward
    keep_graph: bool

    def gramian(self) -> Tensor:
        """The rows' inner products, ``[m, m]`` in float64 on the CPU. Not finite where fp16 overflowed."""
        return self.products

    def combine(self, weights: Tensor) -> None:
        """Add the rows, weighted, to ``.grad``: one backward pass.

        Args:
            weights: ``[m]``, one for each owner.
        """
        known = dict(zip(self.owners, weights.tolist(), strict=True))
        pull(self.losses, known, self.parameters, self.backward, keep_graph=self.keep_graph)


def lean_blocks(
    groups: Sequence[Group],
    need: Sequence[Mapping[Tensor, None]],
    losses: Sequence[Tensor],
    trunk: Sequence[Any] | None,
    backward: Backward,
) -> list[LeanBlock]:
    """The inner products of each group's rows.

    A parameter's rows are dropped when the last of them is there: with a trunk those of a few stages are kept
    at any time, without one all of them. The graph stays.

    Args:
        groups: What gets rows.
        need: For each loss its parameters among these.
        losses: K scalars.
        trunk: Features to cut at.
        backward: Their scale, and how to average over processes.
    """
    passes = plan_passes(losses, trunk, need)
    last = {p: i for i, one in enumerate(passes) for p in one.parameters}
    totals = [torch.zeros(len(losses), len(losses), dtype=torch.float64) for _ in groups]
    present: list[set[int]] = [set() for _ in groups]
    rows = Rows({p for group in groups for p in group.parameters}, losses, backward)
    ran = run_passes(passes, losses, trunk, scale=backward.scale, keep_graph=True)
    for i, (one, grads) in enumerate(ran):
        rows.take(one, grads)
        for group, total, seen in zip(groups, totals, present, strict=True):
            done = tuple(p for p in group.parameters if last.get(p) == i)
            owners = rows.owners(Group(group.owners, done)) if done else ()
            seen.update(owners)
            total[_square(owners)] += gramian([rows.pop(j, done) for j in owners], done)
    return [
        LeanBlock(
            owners := tuple(sorted(seen)),
            group.owners,
            list(group.parameters),
            total[_square(owners)],
            losses,
            backward,
            keep_graph=group is not groups[-1],
        )
        for group, total, seen in zip(groups, totals, present, strict=True)
        if seen
    ]


def pull(
    losses: Sequence[Tensor],
    weights: Mapping[int, float],
    parameters: Sequence[Tensor],
    backward: Backward,
    *,
    keep_graph: bool = False,
) -> None:
    """Add the gradient of the weighted sum of the losses to ``.grad``, by one backward pass.

    Args:
        losses: K scalars.
        weights: Of those losses that count.
        parameters: Where to.
        backward: The losses' scale, and how to average over processes.
        keep_graph: Do not free the graph.
    """
    live = [j for j in weights if losses[j].requires_grad]
    if not live or not parameters:
        return
    grads = torch.autograd.grad(
        [losses[j] for j in live],
        parameters,
        [torch.full_like(losses[j], weights[j] * backward.scale) for j in live],
        retain_graph=keep_graph,
        allow_unused=True,
    )
    mean = backward.average
    mine = unshared(grads) if mean is None else average(grads, parameters, mean)
    for parameter, grad in zip(parameters, mine, strict=True):
        if grad is not None:
            accumulate(parameter, grad)


def _square(owners: Sequence[int]) -> tuple[Tensor, Tensor]:
    index = torch.tensor(owners, dtype=torch.long)
    return index[:, None], index
