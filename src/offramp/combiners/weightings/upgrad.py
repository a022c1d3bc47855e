"""UPGrad: the sum of the gradients, each projected onto the dual cone of all.

Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", arXiv:2406.16232, Eq 3 and 4.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from offramp.combiners.weightings.cone import dual_cone_push
from offramp.combiners.weightings.rows import rows_of

__all__ = ["upgrad"]


def upgrad(gramian: Tensor) -> Tensor:
    """Weights of the sum of the projected rows (the paper's mean, times m), exact and not regularised.

    The direction opposes no row. Without conflict every row is its own projection and all weights are 1.

    Args:
        gramian: ``[m, m]`` float64, with no zero on its diagonal.

    Returns:
        ``[m]``, each at least 1.

    Raises:
        SolverFailed: The solver did not converge.
    """
    rows = rows_of(gramian)
    weights = np.ones(len(rows.norms))
    for unit, norm in zip(rows.units, rows.norms, strict=True):
        weights += norm * dual_cone_push(rows.units, unit) / rows.norms
    return torch.from_numpy(weights)
