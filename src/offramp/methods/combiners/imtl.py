"""IMTL-G: the direction with equal projections on all gradients.

Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021, Eq 6; for dependent rows as in
Quinton and Rey, arXiv:2406.16232: w is proportional to G^+ n, where n_k = |g_k|.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from offramp.checks import number
from offramp.methods.combiners.row_combiner import RowCombiner
from offramp.methods.combiners.solvers import SolverFailure

__all__ = ["IMTL", "imtl_weights"]


@dataclass(frozen=True, kw_only=True)
class IMTL(RowCombiner):
    """IMTL-G, its sign turned where the published weights would ascend; see :func:`imtl_weights`.

    Attributes:
        max_weight: Largest weight of a row, where the plain sum has 1: near the turn they grow without bound.

    Raises:
        UserError: A value out of its range.
    """

    max_weight: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "max_weight", "of 1 or more: equal rows have weight 1", lambda most: most >= 1)

    def weigh(self, gramian: Tensor, last: Tensor) -> Tensor:  # noqa: D102
        return imtl_weights(gramian, self.max_weight)


def imtl_weights(gramian: Tensor, max_weight: float) -> Tensor:
    """m times IMTL-G's weights, on the side where every loss falls, and bounded.

    The published weights are divided by their sum, which may be negative: the direction then *ascends* all
    the losses. It may also be next to 0. So they are divided by its absolute value, and shrunk together
    where one of them would exceed ``max_weight``; the projections stay equal.

    Args:
        gramian: G ``[m, m]`` float64, with no zero on its diagonal.
        max_weight: Largest weight, where the plain sum has 1.

    Returns:
        ``[m]``; their sum is m unless the sign was turned or the bound was hit.

    Raises:
        SolverFailure: No direction has positive projections on all rows, as when two are opposite.
    """
    norms = gramian.diagonal().sqrt()
    unit = gramian / norms.max() ** 2
    norms = norms / norms.max()
    weights = torch.linalg.pinv(unit, hermitian=True) @ norms
    projections = unit @ weights / norms  # 1 each, unless the rows are dependent
    if projections.min() < 1e-9:
        raise SolverFailure("no direction has equal projections on all gradients: two of them are opposite")
    total = weights.sum().abs() / len(norms)
    scaled: Tensor = weights / torch.maximum(total, weights.abs().max() / max_weight)
    return scaled
