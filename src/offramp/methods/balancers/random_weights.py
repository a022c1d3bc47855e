"""Random loss weighting: weights drawn anew at every step.

Lin, Ye, Zhang, "Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task Learning",
TMLR 2022, arXiv:2111.10603.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from offramp.checks import choice
from offramp.methods.balancers.balancer import Balancer
from offramp.methods.objectives.step import Step
from offramp.methods.seeded import seeded

__all__ = ["RandomWeights"]


@dataclass(frozen=True, kw_only=True)
class RandomWeights(Balancer):
    """Weighs the losses by K softmax(z), z from a standard normal distribution, anew at every step.

    The draws are the run's own: equal on all processes and for all micro-batches of a batch, and a run that
    goes on draws what the run without a stop would have drawn.

    Attributes:
        scaling: ``sum``: the weights add up to the number of losses, as joint training's do; ``native``: to
            1, as in the paper.

    Raises:
        UserError: A value out of its range.
    """

    whole_batch = ""
    scaling: str = "sum"

    def __post_init__(self) -> None:
        choice(self, "scaling", ("sum", "native"))

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Sequence[Tensor], Step], list[Tensor]]:  # noqa: D102
        return BoundRandomWeights(self, seed)


class BoundRandomWeights(nn.Module):
    """Random weights of one training; it counts the steps."""

    def __init__(self, options: RandomWeights, seed: int) -> None:
        super().__init__()
        self.scaling, self.seed = options.scaling, seed
        self.steps = 0

    def forward(self, losses: Sequence[Tensor], step: Step) -> list[Tensor]:
        """Weigh the losses; a trial pass gets the weights of the step that it is a part of."""
        with seeded(torch.device("cpu"), self.seed, self.steps - step.trial):
            weights = torch.randn(len(losses)).softmax(0).tolist()
        self.steps += not (step.more or step.trial)
        factor = len(losses) if self.scaling == "sum" else 1
        return [factor * weight * loss for weight, loss in zip(weights, losses, strict=True)]

    def get_extra_state(self) -> dict[str, Any]:
        """Number of steps, for a checkpoint."""
        return {"steps": self.steps}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the number of steps."""
        self.steps = state["steps"]
