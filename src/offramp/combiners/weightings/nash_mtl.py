"""Nash-MTL: the direction on which the losses agree as bargainers.

Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022, arXiv:2202.01017: the Nash bargaining
solution is d = J^T w with G w = 1 / w and w > 0 (Claim 3.1).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from offramp.combiners.weightings.rows import SolverFailed

__all__ = ["nash_mtl", "start_of"]

STEPS = 100
TOLERANCE = 1e-11


def nash_mtl(gramian: Tensor, start: Tensor | None = None) -> Tensor:
    """The solution of ``(G / |G|) w = 1 / w``, with the Frobenius norm, by damped Newton.

    It is the minimum of the strictly convex, self-concordant ``1/2 w^T G w - sum log w``, on which Newton
    damped by its decrement converges from anywhere, in about ten steps. Dividing G by its norm makes the
    weights numbers without a unit: for m equal rows each is 1.

    Args:
        gramian: G ``[m, m]`` float64, with no zero on its diagonal.
        start: Positive weights to start from, e.g. those of the step before; their scale does not matter.

    Returns:
        ``[m]``, positive; ``|J^T w|^2 = m |G|``.

    Raises:
        SolverFailed: There is no solution: the gradients balance one another, or nearly.
    """
    matrix = gramian.numpy()
    size = np.linalg.norm(matrix)
    norms = np.sqrt(matrix.diagonal() / size)
    cosines = matrix / size / np.outer(norms, norms)
    w = norms * start_of(start, matrix / size)  # of the rows of norm 1
    for _ in range(STEPS):
        gradient = cosines @ w - 1 / w
        if not np.isfinite(gradient).all():
            break
        if np.abs(w * gradient).max() < TOLERANCE:
            return torch.from_numpy(w / norms)
        try:
            step = np.linalg.solve(cosines + np.diag(w**-2), gradient)
        except np.linalg.LinAlgError:
            break
        decrement = np.sqrt(max(gradient @ step, 0.0))
        w = w - (step if decrement < 0.25 else step / (1 + decrement))
    raise SolverFailed("the bargaining game has no solution: the gradients balance one another")


def start_of(start: Tensor | None, matrix: np.ndarray) -> np.ndarray:
    """Weights at the scale of the solution, ``w^T G w = m``; by default all alike."""
    w = np.ones(len(matrix)) if start is None else start.numpy()
    square = w @ matrix @ w
    return w * np.sqrt(len(w) / square) if square > 0 else w
