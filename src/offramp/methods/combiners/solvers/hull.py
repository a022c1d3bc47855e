"""The least point of a convex hull: exact, by active sets.

Philip Wolfe, "Finding the nearest point in a polytope", Mathematical Programming 11, 1976, which is the case
``linear = 0``. Points whose weight is not 0 stay affinely independent, and on their affine hull the minimum
has a closed form: so a few small factorisations give the weights to rounding, where Frank-Wolfe creeps.
"""

from __future__ import annotations

import numpy as np

from offramp.methods.combiners.solvers.points import SolverFailure

__all__ = ["ZERO", "hull_minimum"]

ZERO = 1e-10  # a point of the hull that is this near to the origin is the origin; the farthest is at 1


def hull_minimum(
    points: np.ndarray, linear: np.ndarray, radius: float, *, start: np.ndarray | None = None
) -> np.ndarray:
    """Minimise ``linear . x + radius |x|`` over the convex hull of the points.

    Args:
        points: ``[m, r]``; the largest norm is 1.
        linear: ``[r]``, of norm 1 or 0.
        radius: Positive.
        start: Weights to start from, of points that are affinely independent; by default the best point.

    Returns:
        Weights ``[m]`` on the simplex. If ``x`` is the origin, where the function has a kink, they are
        returned at once, whether it is the minimum or not.

    Raises:
        SolverFailure: It did not converge.
    """
    if start is None:
        start = np.zeros(len(points))
        start[np.argmin(points @ linear + radius * np.linalg.norm(points, axis=1))] = 1
    active = [int(k) for k in np.flatnonzero(start)]
    weights = start / start.sum()
    for _ in range(10 * len(points)):
        weights, active = _minimum_on(active, weights, points, linear, radius)
        x = weights @ points
        length = float(np.linalg.norm(x))
        if length < ZERO:
            return weights
        slopes = points @ (linear + radius * x / length)
        best = int(slopes.argmin())
        # relative where the origin is near: the slope along x itself is of the order of |x|
        if best in active or slopes[best] >= weights @ slopes - 1e-9 * length - 1e-13:
            return weights
        active.append(best)
    raise SolverFailure("the search for the least point of the hull did not converge")


def _minimum_on(
    active: list[int], weights: np.ndarray, points: np.ndarray, linear: np.ndarray, radius: float
) -> tuple[np.ndarray, list[int]]:
    """Minimise over the hull of the active points, dropping those whose weight becomes 0."""
    while True:
        now = weights[active]
        goal, bounded = _affine_minimum(points[active], linear, radius)
        change = goal - now if bounded else goal
        if bounded and goal.min() > 0:
            share, gone = 1.0, np.zeros(len(active), dtype=bool)
        else:  # to the border of the simplex
            shrinking = change < 0
            if not shrinking.any():
                raise SolverFailure("the least point of the hull is lost in rounding")
            ratios = np.full(len(active), np.inf)
            ratios[shrinking] = now[shrinking] / -change[shrinking]
            share = float(ratios.min())
            gone = ratios <= share
        weights = np.zeros(len(points))
        weights[active] = np.where(gone, 0, now + share * change)
        weights /= weights.sum()
        if not gone.any():
            return weights, active
        active = [k for k, out in zip(active, gone, strict=True) if not out]


def _affine_minimum(points: np.ndarray, linear: np.ndarray, radius: float) -> tuple[np.ndarray, bool]:
    """Minimise over the affine hull of the points: weights of the minimum and True.

    If there is none, because the function falls without end: a direction in which it does, and False.
    """
    base = points[0]
    if len(points) == 1:
        return np.ones(1), True
    basis, triangle = np.linalg.qr((points[1:] - base).T)
    nearest = base - basis @ (basis.T @ base)  # to the origin
    along = basis.T @ linear
    room = radius**2 - along @ along
    bounded = bool(room > 0)
    # x = nearest + basis y; linear . x + radius sqrt(|nearest|^2 + |y|^2) is least where
    y = -along * np.linalg.norm(nearest) / np.sqrt(room) - basis.T @ base if bounded else -along
    try:
        rest = np.linalg.solve(triangle, y)
    except np.linalg.LinAlgError:
        raise SolverFailure("the points of the hull are not affinely independent") from None
    return np.concatenate([[(1.0 if bounded else 0.0) - rest.sum()], rest]), bounded
