"""PCGrad: each gradient loses its projection on the gradients that it opposes.

Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020, arXiv:2001.06782, Algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from offramp.methods.combiners.row_combiner import RowCombiner

__all__ = ["PCGrad"]


@dataclass(frozen=True, kw_only=True)
class PCGrad(RowCombiner):
    """Each row meets the others in random order and loses its projection on those it opposes; then the sum.

    The order is drawn from the run's seed, the step and the group's losses: a resumed run and all processes
    draw the same.
    """

    def weigh(self, gramian: Tensor, last: Tensor) -> Tensor:  # noqa: D102
        from torchjd.aggregation import PCGradWeighting

        return PCGradWeighting()(gramian)
