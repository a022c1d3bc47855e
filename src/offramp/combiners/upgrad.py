"""UPGrad: each gradient is projected onto the cone of directions that oppose none, then the sum.

Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", arXiv:2406.16232.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from offramp.combiners.weighted import Weigh, Weighted
from offramp.combiners.weightings import upgrad

__all__ = ["UPGrad"]


@dataclass(frozen=True, kw_only=True)
class UPGrad(Weighted):
    """The unconflicting projection of the gradients: no loss rises to first order, and no row is favoured."""

    def weighting(self) -> Weigh:  # noqa: D102
        def weigh(gramian: Tensor, last: Tensor) -> Tensor:
            return upgrad(gramian)

        return weigh
