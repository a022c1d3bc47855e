"""Nash-MTL: the direction on which the losses agree as bargainers.

Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022, arXiv:2202.01017.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from offramp.checks import choice, number
from offramp.combiners.weighted import Weigh, Weighted
from offramp.combiners.weightings import nash_mtl, nash_mtl_cccp

__all__ = ["NashMTL"]

SOLVERS = {"newton": nash_mtl, "cccp": nash_mtl_cccp}


@dataclass(frozen=True, kw_only=True)
class NashMTL(Weighted):
    """The Nash bargaining solution, at the scale of the sum, its norm clipped as published.

    In the paper the direction has the norm sqrt(K) whatever the gradients are, and the authors' code clips it
    to 1: all directions are equally long. Here it has the norm ``sqrt(m |G|)`` before the clip, which is the
    sum's where rows agree. So the two are equal where the clip holds, and near a minimum this one shrinks.

    Attributes:
        solver: ``newton`` solves exactly; ``cccp`` is the published iteration of 20 rounds.
        max_norm: Largest norm of the direction of a group; 1 as published, over all shared parameters: that
            is ``shared=union``. 0 clips nothing. With ``every`` it holds where the weights are found.

    Raises:
        UserError: A value out of its range.
    """

    solver: str = "newton"
    max_norm: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self, "solver", tuple(SOLVERS))
        number(self, "max_norm", "above 0, or 0 for no clip", lambda norm: norm >= 0)

    def weighting(self) -> Weigh:  # noqa: D102
        solve = SOLVERS[self.solver]

        def weigh(gramian: Tensor, last: Tensor) -> Tensor:
            weights = solve(gramian, last)
            norm = torch.sqrt(weights @ gramian @ weights)
            return weights * (self.max_norm / norm) if 0 < self.max_norm < norm else weights

        return weigh
