"""FairGrad: the direction that is fair in how much each loss falls.

Ban and Ji, "Fair Resource Allocation in Multi-Task Learning", ICML 2024, arXiv:2402.15638: d = J^T w with
G w = w^(-1/alpha) and w > 0 maximises sum_k (g_k . d)^(1 - alpha) / (1 - alpha) over a ball (Eq 7).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from offramp.checks import choice, number
from offramp.methods.combiners.row_combiner import RowCombiner
from offramp.methods.combiners.solvers import SolverFailure

__all__ = ["FairGrad", "fair_weights"]

STEPS = 200
TOLERANCE = 1e-10
MARGIN = 0.05  # of its value that a weight keeps at least in one step


@dataclass(frozen=True, kw_only=True)
class FairGrad(RowCombiner):
    """Alpha-fair weights of the rows; see :func:`fair_weights`.

    In the paper the direction's norm follows from the equation: for alpha = 1 it is sqrt(K) whatever the
    gradients are, and it never vanishes near a minimum. At the scale of the sum m equal rows have weight 1.

    Attributes:
        alpha: How much the loss that falls least counts: towards 0 the plain sum, 1 proportional fairness
            (Nash-MTL without its clip), 2 in the authors' scripts, towards infinity the worst loss alone.
        scaling: ``sum``: as above; ``native``: as the paper has it.

    Raises:
        UserError: A value out of its range.
    """

    alpha: float = 2.0
    scaling: str = "sum"

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "alpha", "above 0 and up to 20", lambda alpha: 0 < alpha <= 20)
        choice(self, "scaling", ("sum", "native"))

    def weigh(self, gramian: Tensor, last: Tensor) -> Tensor:  # noqa: D102
        weights = fair_weights(gramian, self.alpha)
        if self.scaling == "sum":
            return weights
        unit: float = float(gramian.norm()) ** (-self.alpha / (1 + self.alpha))
        return weights * unit


def fair_weights(gramian: Tensor, alpha: float) -> Tensor:
    """The solution of ``(G / |G|) w = w^(-1/alpha)``, with the Frobenius norm, by damped Newton.

    It is the minimum of ``1/2 w^T G w - sum_k w_k^(1 - 1/alpha) / (1 - 1/alpha)``, of the logarithm where
    alpha = 1, which is strictly convex. A weight loses 95 % of its value at most in one step.

    Args:
        gramian: G ``[m, m]`` float64, with no zero on its diagonal.
        alpha: Above 0.

    Returns:
        ``[m]``, positive; 1 each for m equal rows.

    Raises:
        SolverFailure: There is no solution: the gradients balance one another, or nearly.
    """
    matrix = gramian.numpy() / np.linalg.norm(gramian.numpy())
    power = 1 / alpha

    def value(w: np.ndarray) -> float:
        gain = np.log(w) if alpha == 1 else w ** (1 - power) / (1 - power)
        return float(0.5 * w @ matrix @ w - gain.sum())

    w = matrix.diagonal() ** (-1 / (1 + power))  # of orthogonal rows
    for _ in range(STEPS):
        gradient = matrix @ w - w**-power
        if not np.isfinite(gradient).all():
            break
        if np.abs(gradient * w**power).max() < TOLERANCE:
            return torch.from_numpy(w)
        hessian = matrix + np.diag(power * w ** (-power - 1))
        scale = 1 / np.sqrt(hessian.diagonal())
        try:
            step = -scale * np.linalg.solve(hessian * np.outer(scale, scale), scale * gradient)
        except np.linalg.LinAlgError:
            break
        longest = min(1.0, (1 - MARGIN) / max(float((-step / w).max()), 1e-300))
        w = _shorter(value, w, step, longest, float(gradient @ step))
    raise SolverFailure("no weights are fair: the gradients balance one another")


def _shorter(
    value: Callable[[np.ndarray], float], w: np.ndarray, step: np.ndarray, length: float, slope: float
) -> np.ndarray:
    """Take a step, halved until the value falls by a part of what its slope says."""
    here = value(w)
    for _ in range(40):
        there: np.ndarray = w + length * step
        if value(there) <= here + 1e-4 * length * slope + 1e-14 * abs(here):
            return there
        length /= 2
    return w + length * step
