"""Weights below the price of the loop: from a part of the batch, or kept for some steps.

Exact weights take one backward pass for each loss at every step. Weights change slowly, and their Gramian is
an average, so both can be had for less: the Gramian of the first share p of the batch takes p times the
passes and one more forward of that share; weights kept for m steps take an m-th of them. The step itself is
then one weighted backward pass. Both are approximations. A Gramian from fewer samples has larger diagonal
entries, since noise adds to each row's length but, as a rule, less to the products of two: rows look less
alike than they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from offramp.combiners.backward import Backward
from offramp.combiners.jacobian.engine import Jacobian
from offramp.combiners.jacobian.lean import LeanBlock
from offramp.objectives.step import Step

__all__ = ["Refreshed"]


class Refreshed(nn.Module):
    """Weighted backward passes whose weights are found anew now and then.

    Its state, the weights and how old they are, goes into checkpoints.

    Args:
        jacobian: With another ``shared`` than ``"per_stage"``: a weighted pass has one vector of weights.
        every: Steps between two refreshments of the weights.
        part: Share of the batch that the Gramian is made from; 1 is the whole batch, without another forward.
    """

    def __init__(self, jacobian: Jacobian, *, every: int = 1, part: float = 1.0) -> None:
        super().__init__()
        self.jacobian, self.every, self.part = jacobian, every, part
        self.age = 0
        self.weights: dict[tuple[int, ...], dict[int, float]] = {}

    def forward(
        self, losses: Sequence[Tensor], step: Step, backward: Backward, weigh: Callable[[LeanBlock], Tensor]
    ) -> None:
        """Fill ``.grad``.

        Args:
            losses: K scalars.
            step: The step they come from; with ``part`` if less than the whole batch is asked for.
            backward: The loss scale, and how to average over processes.
            weigh: A group's owners and Gramian -> weights ``[m]``; called only when they are due. Weights
                that are not finite are not kept: the old ones stand, or 1, and the next step tries again.
        """
        if self.age % self.every == 0:
            self._refresh(losses, step, backward, weigh)
        self.age += 1
        self.jacobian.weighted(losses, step, backward, self.weights)

    def _refresh(
        self, losses: Sequence[Tensor], step: Step, backward: Backward, weigh: Callable[[LeanBlock], Tensor]
    ) -> None:
        if self.part < 1:
            if step.part is None:
                raise ValueError("a Gramian from a part of the batch needs a step with part")
            losses, step = step.part(self.part)
        for block in self.jacobian.gramians(losses, step, backward):
            weights = weigh(block)
            if bool(torch.isfinite(weights).all()):
                self.weights[block.group] = dict(zip(block.owners, weights.tolist(), strict=True))
            else:
                self.age = -1

    def get_extra_state(self) -> dict[str, Any]:
        """The weights and their age."""
        return {"age": self.age, "weights": self.weights}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """The counterpart of :meth:`get_extra_state`."""
        self.age, self.weights = state["age"], state["weights"]
