"""CAGrad: the direction near the mean gradient whose worst progress is best.

Liu et al., "Conflict-Averse Gradient Descent for Multi-task Learning", NeurIPS 2021, arXiv:2110.14048.

    max_d min_k g_k . d   s.t.  |d - g_0| <= c |g_0|,      g_0 the mean gradient             (Eq 1)
    min_w g_w . g_0 + c |g_0| |g_w|  over the simplex,     d = g_0 + c |g_0| g_w / |g_w|     (Eq 4)
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from offramp.combiners.weightings.cone import dual_cone_push
from offramp.combiners.weightings.hull import ZERO, hull_minimum
from offramp.combiners.weightings.rows import Rows, rows_of

__all__ = ["cagrad"]


def cagrad(gramian: Tensor, c: float) -> Tensor:
    """Weights of CAGrad's direction, as the authors' code scales it: ``m d / (1 + c^2)``.

    The dual (Eq 4) is solved exactly. Where g_w = 0 solves it (the gradients balance one another, and the
    ball holds directions that oppose none of them), d is the projection of g_0 onto their dual cone.

    Args:
        gramian: ``[m, m]`` float64, with no zero on its diagonal.
        c: Radius of the ball, in units of ``|g_0|``; in [0, 1).

    Returns:
        ``[m]``. For m equal rows their sum is m (1 + c) / (1 + c^2).

    Raises:
        SolverFailed: The solver did not converge.
    """
    m = len(gramian)
    return torch.from_numpy(_direction(rows_of(gramian), c)) * (m / (1 + c**2))


def _direction(rows: Rows, c: float) -> np.ndarray:
    """Weights of d, at the scale of the mean."""
    points, m = rows.points, len(rows.norms)
    mean = np.full(m, 1 / m)
    center = mean @ points
    length = float(np.linalg.norm(center))
    if c == 0 or length < ZERO:
        return mean
    weights = hull_minimum(points, center / length, c)
    if np.linalg.norm(weights @ points) < ZERO:
        push = dual_cone_push(rows.units, center)
        reach = float(np.linalg.norm(push @ rows.units))
        push /= rows.norms
        if reach <= c * length * (1 + 1e-9):
            return mean + push
        weights = hull_minimum(points, center / length, c, start=push / push.sum())
    x = weights @ points
    return mean + c * length / np.linalg.norm(x) * weights
