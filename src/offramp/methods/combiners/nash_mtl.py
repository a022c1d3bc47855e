"""Nash-MTL: the direction on which the losses agree as bargainers.

Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022, arXiv:2202.01017: the Nash bargaining
solution is d = J^T w with G w = 1 / w and w > 0 (Claim 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from offramp.checks import choice, number
from offramp.methods.combiners.row_combiner import RowCombiner
from offramp.methods.combiners.solvers import SolverFailure, hull_minimum, points_of

__all__ = ["NashMTL", "nash_weights", "nash_weights_cccp"]

STEPS = 100
TOLERANCE = 1e-11
ROUNDS = 20
NEWTON_STEPS = 60


@dataclass(frozen=True, kw_only=True)
class NashMTL(RowCombiner):
    """The Nash bargaining solution, at the scale of the sum, its norm clipped as published.

    In the paper the direction has the norm sqrt(K) whatever the gradients are, and the authors' code clips it
    to 1: all directions are equally long. Here it has the norm ``sqrt(m |G|)`` before the clip, which is the
    sum's where rows agree. So the two are equal where the clip holds, and near a minimum this one shrinks.

    Attributes:
        solver: ``newton`` solves exactly; ``cccp`` is the published iteration of 20 rounds.
        max_norm: Largest norm of the direction of a group; 1 as published, over all shared parameters: that
            is ``shared=union``. 0 clips nothing. With ``every`` it holds where the weights are found.

    Raises:
        UserError: A value out of its range.
    """

    solver: str = "newton"
    max_norm: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self, "solver", ("newton", "cccp"))
        number(self, "max_norm", "above 0, or 0 for no clip", lambda norm: norm >= 0)

    def weigh(self, gramian: Tensor, last: Tensor) -> Tensor:  # noqa: D102
        solve = nash_weights if self.solver == "newton" else nash_weights_cccp
        weights = solve(gramian, last)
        norm = torch.sqrt(weights @ gramian @ weights)
        return weights * (self.max_norm / norm) if 0 < self.max_norm < norm else weights


def nash_weights(gramian: Tensor, start: Tensor | None = None) -> Tensor:
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
        SolverFailure: There is no solution: the gradients balance one another, or nearly.
    """
    matrix = gramian.numpy()
    size = np.linalg.norm(matrix)
    norms = np.sqrt(matrix.diagonal() / size)
    cosines = matrix / size / np.outer(norms, norms)
    w = norms * _start_of(start, matrix / size)  # of the rows of norm 1
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
    raise SolverFailure("the bargaining game has no solution: the gradients balance one another")


def _start_of(start: Tensor | None, matrix: np.ndarray) -> np.ndarray:
    """Weights at the scale of the solution, ``w^T G w = m``; by default all alike."""
    w = np.ones(len(matrix)) if start is None else start.numpy()
    square = w @ matrix @ w
    return w * np.sqrt(len(w) / square) if square > 0 else w


def nash_weights_cccp(gramian: Tensor, start: Tensor | None = None) -> Tensor:
    """The weights after the published iteration, which stops at a residual of 1e-3 or a change of 1e-6.

    Section 3.2 and the authors' code: up to 20 rounds that minimise ``sum_k (G w)_k + phi'(w_t) . (w - w_t)``
    subject to ``phi_k(w) >= 0``, where phi_k(w) = log w_k + log (G w)_k. Their code hands each round to a
    conic solver; here it is a barrier method.

    Args:
        gramian: G ``[m, m]`` float64, with no zero on its diagonal; it is divided by its Frobenius norm.
        start: Positive weights to start from, e.g. those of the step before; by default all alike. Their
            scale does not matter.

    Returns:
        ``[m]``, positive, at the scale of :func:`nash_weights`.

    Raises:
        SolverFailure: No weights satisfy the constraints: the gradients balance one another.
    """
    matrix = gramian.numpy() / np.linalg.norm(gramian.numpy())
    norms = np.sqrt(matrix.diagonal())
    cosines = matrix / np.outer(norms, norms)  # below, weights of the rows of norm 1: phi is the same
    inner = _interior(gramian, cosines)
    w = _start_of(start, matrix)
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
    units = points_of(gramian).units
    hull = hull_minimum(units, np.zeros(units.shape[1]), 1.0)
    progress = cosines @ hull
    if progress.min() <= 1e-12:
        raise SolverFailure("the bargaining game has no solution: the gradients balance one another")
    w: np.ndarray = hull + 0.5 * progress.min() / len(hull)  # a row can take away as much as its weight
    w *= np.sqrt(np.e / (w * (cosines @ w)).min())
    return w


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
            raise SolverFailure("a round of Nash-MTL's convex problems is singular") from None
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
