"""Inner products of gradient rows without keeping the rows, and backward passes with weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from offramp.methods.combiners.backward import Backward
from offramp.methods.combiners.jacobian._passes import plan_passes
from offramp.methods.combiners.jacobian._run_passes import in_own_memory, run_passes
from offramp.methods.combiners.jacobian.groups import ParameterGroup
from offramp.methods.combiners.jacobian.row_block import accumulate, gramian
from offramp.methods.combiners.jacobian.row_buffer import RowBuffer, average
from offramp.reentrant import reentrant_named

__all__ = ["LeanBlock", "add_weighted_gradient", "lean_blocks"]


@dataclass(frozen=True)
class LeanBlock:
    """The inner products of a group's rows, and the graph to combine the rows through.

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
        """Inner products of the rows, ``[m, m]`` in float64 on the CPU. Not finite where fp16 overflowed."""
        return self.products

    def combine(self, weights: Tensor) -> None:
        """Add the rows, weighted, to ``.grad``: one backward pass.

        Args:
            weights: ``[m]``, one for each owner.
        """
        known = dict(zip(self.owners, weights.tolist(), strict=True))
        add_weighted_gradient(self.losses, known, self.parameters, self.backward, keep_graph=self.keep_graph)


def lean_blocks(
    groups: Sequence[ParameterGroup],
    need: Sequence[Mapping[Tensor, None]],
    losses: Sequence[Tensor],
    trunk: Sequence[Any] | None,
    backward: Backward,
) -> list[LeanBlock]:
    """Inner products of each group's rows, without keeping the rows.

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
    last = {p: i for i, planned in enumerate(passes) for p in planned.parameters}
    totals = [torch.zeros(len(losses), len(losses), dtype=torch.float64) for _ in groups]
    present: list[set[int]] = [set() for _ in groups]
    rows = RowBuffer({p for group in groups for p in group.parameters}, losses, backward)
    ran = run_passes(passes, losses, trunk, scale=backward.scale, keep_graph=True)
    for i, (done, grads) in enumerate(ran):
        rows.take(done, grads)
        for group, total, seen in zip(groups, totals, present, strict=True):
            complete = tuple(p for p in group.parameters if last.get(p) == i)
            owners = rows.owners(ParameterGroup(group.owners, complete)) if complete else ()
            seen.update(owners)
            total[_square(owners)] += gramian([rows.pop(j, complete) for j in owners], complete)
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


def add_weighted_gradient(
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
    with reentrant_named():
        grads = torch.autograd.grad(
            [losses[j] for j in live],
            parameters,
            [torch.full_like(losses[j], weights[j] * backward.scale) for j in live],
            retain_graph=keep_graph,
            allow_unused=True,
        )
    mean = backward.average
    mine = in_own_memory(grads) if mean is None else average(grads, parameters, mean)
    for parameter, grad in zip(parameters, mine, strict=True):
        if grad is not None:
            accumulate(parameter, grad)


def _square(owners: Sequence[int]) -> tuple[Tensor, Tensor]:
    index = torch.tensor(owners, dtype=torch.long)
    return index[:, None], index
