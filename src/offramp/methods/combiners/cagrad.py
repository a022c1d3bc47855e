"""CAGrad: near the mean gradient, the direction whose worst progress is best.

Liu et al., "Conflict-Averse Gradient Descent for Multi-task Learning", NeurIPS 2021, arXiv:2110.14048.

    max_d min_k g_k . d   s.t.  |d - g_0| <= c |g_0|,      g_0 the mean gradient             (Eq 1)
    min_w g_w . g_0 + c |g_0| |g_w|  over the simplex,     d = g_0 + c |g_0| g_w / |g_w|     (Eq 4)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from offramp.checks import choice, number
from offramp.methods.combiners.row_combiner import RowCombiner
from offramp.methods.combiners.solvers import ZERO, Points, dual_cone_push, hull_minimum, points_of

__all__ = ["CAGrad", "cagrad_weights"]


@dataclass(frozen=True, kw_only=True)
class CAGrad(RowCombiner):
    """Conflict-averse gradient descent, scaled as in the authors' code; see :func:`cagrad_weights`.

    Attributes:
        c: How far the direction may be from the mean gradient, in units of its norm; 0.4 in the authors'
            scripts. 0 is the plain sum, and towards 1 it becomes MGDA.
        scaling: ``sum``: times the number of losses, as in the authors' multi-task code. ``native``:
            ``d / (1 + c^2)`` of the paper's d, near the mean gradient, as in Meta-GF's package: an m-th.

    Raises:
        UserError: A value out of its range.
    """

    c: float = 0.4
    scaling: str = "sum"

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "c", "from 0 to below 1, e.g. 0.4 as in the paper", lambda c: 0 <= c < 1)
        choice(self, "scaling", ("sum", "native"))

    def plain(self, count: int) -> Tensor:
        """Weights ``[count]`` of the sum, or of the mean for the native scale."""
        return super().plain(count) / (1 if self.scaling == "sum" else count)

    def weigh(self, gramian: Tensor, last: Tensor) -> Tensor:  # noqa: D102
        return cagrad_weights(gramian, self.c) * self.plain(len(gramian))


def cagrad_weights(gramian: Tensor, c: float) -> Tensor:
    """Weights of CAGrad's direction, as the authors' code scales it: ``m d / (1 + c^2)``.

    The dual (Eq 4) is solved exactly. Where g_w = 0 solves it (the gradients balance one another, and the
    ball holds directions that oppose none of them), d is the projection of g_0 onto their dual cone.

    Args:
        gramian: ``[m, m]`` float64, with no zero on its diagonal.
        c: Radius of the ball, in units of ``|g_0|``; in [0, 1).

    Returns:
        ``[m]``. For m equal rows their sum is m (1 + c) / (1 + c^2).

    Raises:
        SolverFailure: The solver did not converge.
    """
    m = len(gramian)
    return torch.from_numpy(_direction(points_of(gramian), c)) * (m / (1 + c**2))


def _direction(gradients: Points, c: float) -> np.ndarray:
    """Weights of CAGrad's direction d, at the scale of the mean gradient."""
    points, m = gradients.points, len(gradients.norms)
    mean = np.full(m, 1 / m)
    center = mean @ points
    length = float(np.linalg.norm(center))
    if c == 0 or length < ZERO:
        return mean
    weights = hull_minimum(points, center / length, c)
    if np.linalg.norm(weights @ points) < ZERO:
        push = dual_cone_push(gradients.units, center)
        reach = float(np.linalg.norm(push @ gradients.units))
        push /= gradients.norms
        if reach <= c * length * (1 + 1e-9):
            bent: np.ndarray = mean + push
            return bent
        weights = hull_minimum(points, center / length, c, start=push / push.sum())
    x = weights @ points
    longest: np.ndarray = mean + c * length / np.linalg.norm(x) * weights
    return longest
