"""Weights that cost less than a pass for each loss: from a part of the batch, or kept for some steps.

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

from offramp.errors import shown
from offramp.methods.combiners.backward import Backward
from offramp.methods.combiners.jacobian.engine import Jacobian
from offramp.methods.combiners.jacobian.lean_block import LeanBlock
from offramp.methods.objectives.step import Step
from offramp.stored_values import check_like, check_whole

__all__ = ["RefreshedWeights"]


class RefreshedWeights(nn.Module):
    """Weighted backward passes whose weights are refreshed every few steps, or from a part of the batch.

    Its state, the weights and how old they are, goes into checkpoints. Steps in which outputs are absent
    have weights and an age of their own, for each set of absent outputs: weights are made for rows together.

    Args:
        jacobian: With another ``shared`` than ``"per_stage"``: a weighted pass has one vector of weights.
        every: Steps between two refreshments of the weights.
        part: Share of the batch that the Gramian is made from; 1 is the whole batch, without another forward.
    """

    def __init__(self, jacobian: Jacobian, *, every: int = 1, part: float = 1.0) -> None:
        super().__init__()
        self.jacobian, self.every, self.part = jacobian, every, part
        self.ages: dict[tuple[int, ...], int] = {}  # absent outputs -> steps with these weights
        self.weights: dict[tuple[int, ...], dict[tuple[int, ...], dict[int, float]]] = {}

    def forward(
        self, losses: Sequence[Tensor], step: Step, backward: Backward, weigh: Callable[[LeanBlock], Tensor]
    ) -> None:
        """Fill ``.grad`` by one weighted backward pass, and refresh the weights when they are due.

        Args:
            losses: One scalar for each output that has a target, in order.
            step: The step they come from; with ``part`` if less than the whole batch is asked for.
            backward: The loss scale, and how to average over processes.
            weigh: A group's owners and Gramian -> weights ``[m]``; called only when they are due. Weights
                that are not finite are not kept: the old ones stand, or 1, and the next step tries again.
        """
        present = step.present
        absent = tuple(k for k in range(len(step.outputs)) if k not in present)
        age, weights = self.ages.get(absent, 0), self.weights.setdefault(absent, {})
        if age % self.every == 0 and not self._refresh(losses, step, backward, weigh, weights):
            age = -1
        self.ages[absent] = age + 1
        self.jacobian.weighted(losses, step, backward, weights)

    def _refresh(
        self,
        losses: Sequence[Tensor],
        step: Step,
        backward: Backward,
        weigh: Callable[[LeanBlock], Tensor],
        kept: dict[tuple[int, ...], dict[int, float]],
    ) -> bool:
        """Replace the kept weights of each group; return whether all of the new ones are finite."""
        finite = True
        if self.part < 1:
            if step.part is None:
                raise ValueError("a Gramian from a part of the batch needs a step with part")
            losses, step = step.part(self.part)
        for block in self.jacobian.gramians(losses, step, backward):
            weights = weigh(block)
            if bool(torch.isfinite(weights).all()):
                kept[block.group] = dict(zip(block.owners, weights.tolist(), strict=True))
            else:
                finite = False
        return finite

    def get_extra_state(self) -> dict[str, Any]:
        """Kept weights and their ages, for a checkpoint."""
        return {"ages": self.ages, "weights": self.weights}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the weights and their ages from a checkpoint.

        Raises:
            ValueError: They are none.
        """
        if "age" in state:  # written when every output was present in every step
            state = {"ages": {(): state["age"]}, "weights": {(): state["weights"]}}
        for absent, age in state["ages"].items():
            check_whole(age, f"age of {shown(absent)}", 0)
        for group, weights in ((g, w) for of in state["weights"].values() for g, w in of.items()):
            check_like(weights, dict.fromkeys(weights, 1.0), f"weights of {shown(group)}")
        self.ages, self.weights = state["ages"], state["weights"]
