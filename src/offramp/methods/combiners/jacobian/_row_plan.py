"""Which parameters get rows in a step, and which gradients each loss has to give."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from offramp.methods.combiners.jacobian.exit_graph import LossInputs
from offramp.methods.combiners.jacobian.groups import ParameterGroup, group_parameters

__all__ = ["RowPlan", "plan_rows"]


@dataclass(frozen=True)
class RowPlan:
    """Which parameters get rows in a step, and which gradients each loss has to give.

    Attributes:
        groups: Parameters that get rows.
        group_of: The group of each of these.
        need: For each loss the parameters that it reaches.
        plain: The parameters that get the plain sum of their gradients.
    """

    groups: list[ParameterGroup]
    group_of: dict[Tensor, ParameterGroup]
    need: list[dict[Tensor, None]]
    plain: list[Tensor]


def plan_rows(
    outputs_of: Mapping[Tensor, frozenset[int]],
    reaches: Sequence[LossInputs],
    shared: str,
    present: Collection[int],
) -> RowPlan:
    """Plan the rows of losses that read these outputs.

    A loss reaches a parameter if it reads one of the outputs that the parameter reaches. As a rule loss k
    reads output k alone; a teacher that is not detached is an exception.

    An output that is absent from the step has no row, but the groups stay what they are with it: of a trunk
    and a part of it that only some decoders read, no two become one group because the others are absent. A
    parameter with one present owner gets its plain gradient, one with none has no gradient.

    Args:
        outputs_of: For each parameter of the net the outputs it reaches.
        reaches: For each loss what it reads.
        shared: The reading of "shared", see :func:`group_parameters`.
        present: The losses that there are in this step.
    """
    trained = {p: outputs for p, outputs in outputs_of.items() if p.requires_grad}
    trained.update({p: frozenset() for r in reaches for p in r.leaves if p not in trained})
    owners = {
        p: frozenset(j for j, r in enumerate(reaches) if r.outputs & outputs or p in r.leaves)
        for p, outputs in trained.items()
    }
    groups = group_parameters({p: owners[p] for p in trained if p in outputs_of}, shared)
    owners = {p: indices & frozenset(present) for p, indices in owners.items()}
    fewest = 1 if shared == "all" else 2
    groups = [left for group in groups if (left := group.restricted(owners, fewest)) is not None]
    group_of = {p: group for group in groups for p in group.parameters}
    need = [{p: None for p, indices in owners.items() if j in indices} for j in range(len(reaches))]
    return RowPlan(
        groups, group_of, need, [p for p, indices in owners.items() if indices and p not in group_of]
    )
