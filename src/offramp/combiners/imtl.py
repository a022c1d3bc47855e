"""IMTL-G: the direction with equal projections on all gradients.

Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from offramp.checks import number
from offramp.combiners.weighted import Weigh, Weighted
from offramp.combiners.weightings import imtl

__all__ = ["IMTL"]


@dataclass(frozen=True, kw_only=True)
class IMTL(Weighted):
    """IMTL-G, its sign turned where the published weights would ascend; see :func:`weightings.imtl`.

    Attributes:
        max_weight: Largest weight of a row, where the plain sum has 1: near the turn they grow without bound.

    Raises:
        UserError: A value out of its range.
    """

    max_weight: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "max_weight", "of 1 or more: equal rows have weight 1", lambda most: most >= 1)

    def weighting(self) -> Weigh:  # noqa: D102
        def weigh(gramian: Tensor, last: Tensor) -> Tensor:
            return imtl(gramian, self.max_weight)

        return weigh
