"""Nash-MTL's published solver: a sequence of convex problems.

Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022, section 3.2, and the authors' code: up to
20 rounds that minimise ``sum_k (G w)_k + phi'(w_t) . (w - w_t)`` subject to ``phi_k(w) >= 0``, where
phi_k(w) = log w_k + log (G w)_k. Their code hands each round to a conic solver; here it is a barrier method.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from offramp.combiners.weightings.hull import hull_minimum
from offramp.combiners.weightings.nash_mtl import start_of
from offramp.combiners.weightings.rows import SolverFailed, rows_of

__all__ = ["nash_mtl_cccp"]

ROUNDS = 20
NEWTON_STEPS = 60


def nash_mtl_cccp(gramian: Tensor, start: Tensor | None = None) -> Tensor:
    """The weights after the published iteration, which stops at a residual of 1e-3 or a change of 1e-6.

    Args:
        gramian: G ``[m, m]`` float64, with no zero on its diagonal; it is divided by its Frobenius norm.
        start: Positive weights to start from, e.g. those of the step before; by default all alike. Their
            scale does not matter.

    Returns:
        ``[m]``, positive, at the scale of :func:`~offramp.combiners.weightings.nash_mtl.nash_mtl`.

    Raises:
        SolverFailed: No weights satisfy the constraints: the gradients balance one another.
    """
    matrix = gramian.numpy() / np.linalg.norm(gramian.numpy())
    norms = np.sqrt(matrix.diagonal())
    cosines = matrix / np.outer(norms, norms)  # below, weights of the rows of norm 1: phi is the same
    inner = _interior(gramian, cosines)
    w = start_of(start, matrix)
    if (matrix @ w <= 0).any():  # phi is not defined there
        w = inner / norms
    for _ in range(ROUNDS):
        slope = matrix.sum(axis=0) + 1 / w + matrix @ (1 / (matrix @ w))
        new = _round(cosines, slope / norms, inner) / norms
        if np.linalg.norm(matrix @ w - 1 / w) < 1e-3 or np.linalg.norm(new - w) < 1e-6:
            break
        w = new
    return torch.from_numpy(w)


def _interior(gramian: Tensor, cosines: np.ndarray) -> np.ndarray:
    """Weights with every phi_k >= 1: the shortest vector of the hull has a positive product with each row."""
    units = rows_of(gramian).units
    hull = hull_minimum(units, np.zeros(units.shape[1]), 1.0)
    progress = cosines @ hull
    if progress.min() <= 1e-12:
        raise SolverFailed("the bargaining game has no solution: the gradients balance one another")
    w = hull + 0.5 * progress.min() / len(hull)  # a row can take away as much as its weight
    return w * np.sqrt(np.e / (w * (cosines @ w)).min())


def _round(matrix: np.ndarray, slope: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Minimise ``slope . w`` subject to ``phi(w) >= 0``, from a strictly feasible start."""
    w, sharpness = start, 1 / (slope @ start)
    for _ in range(7):
        w = _center(matrix, slope * sharpness, w)
        sharpness *= 50
    return w


def _center(matrix: np.ndarray, slope: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Minimise ``slope . w - sum log phi(w)`` by Newton with backtracking."""

    def value(w: np.ndarray) -> float:
        progress = matrix @ w
        if w.min() <= 0 or progress.min() <= 0:
            return np.inf
        phi = np.log(w) + np.log(progress)
        return float(slope @ w - np.log(phi).sum()) if phi.min() > 0 else np.inf

    height = value(w)
    for _ in range(NEWTON_STEPS):
        progress = matrix @ w
        phi = np.log(w) + np.log(progress)
        rates = np.diag(1 / w) + matrix / progress[:, None]  # of phi, [k, weight]
        gradient = slope - (1 / phi) @ rates
        along = matrix / progress[:, None]
        curvature = rates.T @ np.diag(phi**-2) @ rates + np.diag(1 / (phi * w**2))
        curvature += along.T @ np.diag(1 / phi) @ along
        try:
            step = np.linalg.solve(curvature, gradient)
        except np.linalg.LinAlgError:
            raise SolverFailed("a round of Nash-MTL's convex problems is singular") from None
        decrement = gradient @ step
        if decrement < 1e-12:
            break
        share = 1.0
        while (new := value(w - share * step)) > height - 0.1 * share * decrement:
            share /= 2
            if share < 1e-12:
                return w  # as low as rounding lets it
        w, height = w - share * step, new
    return w
