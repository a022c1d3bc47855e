"""Gradient vaccine: two gradients whose cosine is below its moving average are turned towards it.

Wang, Tsvetkov, Firat, Cao, "Gradient Vaccine: Investigating and Improving Multi-task Optimization in
Massively Multilingual Models", ICLR 2021, arXiv:2010.05874, Alg 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from offramp.checks import number
from offramp.methods.combiners._torchjd_adapter import GramianWeighting
from offramp.methods.combiners.row_combiner import RowCombiner, Weighting

__all__ = ["GradVac"]


@dataclass(frozen=True, kw_only=True)
class GradVac(RowCombiner):
    """Each row meets the others in random order and gets so much of one that their cosine is its average.

    The average is of all cosines that the two had, from 0 on; so the first step is PCGrad's. Each group of
    parameters has averages of its own. The order is drawn from the run's seed, the step and the group's
    losses.

    Attributes:
        beta: Share of the newest cosine in the moving average: 0.5 in public code; ports have 0.01 too.

    Raises:
        UserError: A value out of its range.
    """

    beta: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "beta", "from 0 to 1", lambda beta: 0 <= beta <= 1)

    def weighting(self) -> Weighting:  # noqa: D102
        return GramianWeighting("GradVac", {"beta": float(self.beta)})
