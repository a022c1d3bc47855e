"""A combiner made of any aggregator of TorchJD that works on the gradient rows of one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from offramp.checks import is_number
from offramp.errors import UserError, shown
from offramp.methods.combiners._torchjd_adapter import (
    MATRIX,
    MEAN,
    GramianWeighting,
    load_state,
    make_aggregator,
    state_of,
)
from offramp.methods.combiners.backward import Backward
from offramp.methods.combiners.jacobian import Jacobian, RowBlock
from offramp.methods.combiners.row_combiner import (
    Key,
    RowCombiner,
    Weighting,
    rows_key,
    seed_key,
)
from offramp.methods.objectives.step import Step
from offramp.methods.seeded import seeded
from offramp.stored_values import check_finite, check_whole

__all__ = ["Aggregate", "BoundAggregator"]


@dataclass(frozen=True, kw_only=True)
class Aggregate(RowCombiner):
    """An aggregator of TorchJD, one for each group, at the scale of the sum.

    Where it has a weighting of the Gramian that is used, else the matrix of the rows. PCD's primary objective
    is the group's last exit, of those that are present.

    Attributes:
        aggregator: Its class, e.g. ``GradVac``.
        arguments: Its keyword arguments, numbers and words, e.g. ``{"beta": 0.01}``.

    Raises:
        UserError: There is none, it cannot work here, or it does not take these arguments.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"rows", "trunk"})

    aggregator: str = "GradVac"
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.arguments, Mapping):
            raise UserError(
                f"arguments are the aggregator's, e.g. {{'beta': 0.01}}, got {shown(self.arguments)}"
            )
        if self.arguments or self.aggregator != Aggregate.aggregator:  # the default costs no import
            arguments = dict(self.arguments)
            if self.aggregator == "GradDrop":
                leak = arguments.pop("leak", 0.0)
                if not is_number(leak) or not 0 <= leak <= 1:
                    raise UserError(f"leak of GradDrop is a share from 0 to 1, got {shown(leak)}")
            make_aggregator(self.aggregator, arguments)
        if self.aggregator in MATRIX and self._cheaper:
            raise UserError(f"{self.aggregator} needs the rows themselves: no lean, every or part with it")

    def weighting(self) -> Weighting:  # noqa: D102
        return GramianWeighting(self.aggregator, self.arguments)

    def bind(self, net: nn.Module, seed: int = 0) -> nn.Module:  # noqa: D102
        if self.aggregator not in MATRIX:
            return super().bind(net, seed)
        return BoundAggregator(net, self.shared, self.aggregator, self.arguments, seed)


class BoundAggregator(nn.Module):
    """Aggregators of TorchJD bound to a net, one for each group of parameters; they need whole rows.

    Args:
        net: The net, its forks in place.
        shared: As for :class:`~offramp.methods.combiners.row_combiner.RowCombiner`.
        name: The aggregator's class.
        arguments: Its keyword arguments; a ``leak`` is the same for all rows.
        seed: Of its own draws.
    """

    def __init__(
        self, net: nn.Module, shared: str, name: str, arguments: Mapping[str, Any], seed: int = 0
    ) -> None:
        super().__init__()
        self.jacobian = Jacobian(net, shared)
        self.name, self.arguments = name, dict(arguments)
        self.leak = self.arguments.pop("leak", None)
        self.seed, self.steps = seed, 0
        self.aggregators: dict[Key, nn.Module] = {}
        self.restored: dict[Key, dict[str, Any]] = {}

    def forward(self, losses: Sequence[Tensor], step: Step, backward: Backward) -> None:
        """Add a gradient to ``.grad`` of every parameter."""
        for block in self.jacobian.blocks(losses, step, backward):
            assert isinstance(block, RowBlock)
            matrix = block.matrix()
            if bool(matrix.isfinite().all()):
                rows, group = block.owners, block.group
                seed = seed_key(rows, group, step.present)
                block.assign(self.aggregate(rows_key(rows, group), seed, matrix))
            else:  # an overflow under fp16 must reach .grad, so that the step is skipped
                block.assign(torch.full_like(matrix[0], torch.inf))
        self.steps += not step.more

    def aggregate(self, key: Key, seed: Key, matrix: Tensor) -> Tensor:
        """Turn a group's rows ``[m, n]`` into a direction ``[n]``, by its keys of memory and draws."""
        is_new = key not in self.aggregators
        if is_new:
            aggregator = make_aggregator(self.name, self.arguments)
            if self.leak is not None:
                aggregator.leak = matrix.new_full((len(matrix),), self.leak)
            self.aggregators[key] = aggregator
        with torch.no_grad(), seeded(matrix.device, self.seed, self.steps, seed):
            if is_new and key in self.restored:
                with seeded(matrix.device):
                    self.aggregators[key](matrix)  # so that it sizes its state, which is then replaced
                load_state(self.aggregators[key], self.restored.pop(key))
            vector: Tensor = self.aggregators[key](matrix)
        return len(matrix) * vector if self.name in MEAN else vector

    def get_extra_state(self) -> dict[str, Any]:
        """Number of steps, and state of each group's aggregator, for a checkpoint."""
        states = {owners: state_of(aggregator) for owners, aggregator in self.aggregators.items()}
        return {"steps": self.steps, "states": {**self.restored, **states}}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the steps and the aggregators' states from a checkpoint.

        Raises:
            ValueError: They are none, or not finite.
        """
        check_whole(state["steps"], "steps", 0)
        check_finite(state["states"], "states")
        self.steps, self.restored, self.aggregators = state["steps"], dict(state["states"]), {}
