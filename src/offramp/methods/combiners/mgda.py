"""MGDA: the shortest vector of the convex hull of the gradients.

Désidéri, "Multiple-gradient descent algorithm (MGDA) for multiobjective optimization", Comptes Rendus
Mathématique 350, 2012; Sener and Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018,
arXiv:1810.04650, Eq 3, whose Frank-Wolfe iteration (Algorithm 2) stops up to a tenth above the minimum with
seven gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from offramp.methods.combiners.row_combiner import RowCombiner
from offramp.methods.combiners.solvers import hull_minimum, points_of

__all__ = ["MGDA", "mgda_weights"]


@dataclass(frozen=True, kw_only=True)
class MGDA(RowCombiner):
    """m times the shortest vector of the gradients' convex hull, exact.

    It follows the shortest gradient, and is 0 where none of the losses can fall without another's rise.
    """

    def weigh(self, gramian: Tensor, last: Tensor) -> Tensor:  # noqa: D102
        return mgda_weights(gramian)


def mgda_weights(gramian: Tensor) -> Tensor:
    """m times the weights on the simplex that minimise ``w^T G w``, exact.

    The direction d = J^T w / m has ``d . g_k >= |d|^2`` for every k, with equality where w_k > 0. It follows
    the shortest gradient, and is 0 if the origin lies in the hull.

    Args:
        gramian: G ``[m, m]`` float64, with no zero on its diagonal.

    Returns:
        ``[m]``, with sum m.

    Raises:
        SolverFailure: The solver did not converge.
    """
    points = points_of(gramian).points
    weights = hull_minimum(points, np.zeros(points.shape[1]), 1.0)
    return len(weights) * torch.from_numpy(weights)
