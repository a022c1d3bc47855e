"""MGDA: the shortest vector of the convex hull of the gradients.

Désidéri, Comptes Rendus Mathématique 350, 2012; Sener and Koltun, "Multi-Task Learning as Multi-Objective
Optimization", NeurIPS 2018, arXiv:1810.04650.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from offramp.combiners.weighted import Weigh, Weighted
from offramp.combiners.weightings import mgda

__all__ = ["MGDA"]


@dataclass(frozen=True, kw_only=True)
class MGDA(Weighted):
    """m times the shortest vector of the hull, exact; it follows the shortest gradient, and is 0 where none
    of the losses can fall without another's rise."""

    def weighting(self) -> Weigh:  # noqa: D102
        def weigh(gramian: Tensor, last: Tensor) -> Tensor:
            return mgda(gramian)

        return weigh
