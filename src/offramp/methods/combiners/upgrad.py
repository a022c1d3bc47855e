"""UPGrad: each gradient is projected onto the cone of directions that oppose none, then the sum.

Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", arXiv:2406.16232, Eq 3 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from offramp.methods.combiners.row_combiner import RowCombiner
from offramp.methods.combiners.solvers import dual_cone_push, points_of

__all__ = ["UPGrad", "upgrad_weights"]


@dataclass(frozen=True, kw_only=True)
class UPGrad(RowCombiner):
    """The unconflicting projection of the gradients: no loss rises to first order, and no row is favoured."""

    def weigh(self, gramian: Tensor, last: Tensor) -> Tensor:  # noqa: D102
        return upgrad_weights(gramian)


def upgrad_weights(gramian: Tensor) -> Tensor:
    """Weights of the sum of the projected rows (the paper's mean, times m), exact and not regularised.

    The direction opposes no row. Without conflict every row is its own projection and all weights are 1.

    Args:
        gramian: ``[m, m]`` float64, with no zero on its diagonal.

    Returns:
        ``[m]``, each at least 1.

    Raises:
        SolverFailure: The solver did not converge.
    """
    points = points_of(gramian)
    weights = np.ones(len(points.norms))
    for unit, norm in zip(points.units, points.norms, strict=True):
        weights += norm * dual_cone_push(points.units, unit) / points.norms
    return torch.from_numpy(weights)
