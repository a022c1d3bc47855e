"""The projection onto a dual cone, by non-negative least squares.

Lawson and Hanson, "Solving Least Squares Problems", 1974, algorithm NNLS (chapter 23).
"""

from __future__ import annotations

import numpy as np

from offramp.methods.combiners.solvers.points import SolverFailure

__all__ = ["dual_cone_push"]

TOLERANCE = 1e-12


def dual_cone_push(units: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The least combination of rows to add to a vector so that it opposes none of them.

    Minimises ``|target + push @ units|`` over ``push >= 0``. The result ``d = target + push @ units`` is the
    projection of ``target`` onto the cone of the d with ``units @ d >= 0``, and where ``push[k] > 0``, d is
    orthogonal to row k.

    Args:
        units: Rows of norm 1, ``[m, r]``.
        target: ``[r]``.

    Returns:
        ``push [m]``; the rows where it is not 0 are linearly independent.

    Raises:
        SolverFailure: It did not converge.
    """
    push = np.zeros(len(units))
    passive: list[int] = []  # rows that push
    tolerance = TOLERANCE * max(1.0, len(units)) * float(np.linalg.norm(target))
    for _ in range(10 * len(units)):
        slopes = units @ (target + push @ units)
        slopes[passive] = 0
        worst = int(slopes.argmin())
        if slopes[worst] >= -tolerance:
            return push
        passive.append(worst)
        while passive:
            best = np.linalg.solve(units[passive] @ units[passive].T, -units[passive] @ target)
            if best.min() > 0:
                push[passive] = best
                break
            # as far towards the best as all remain non-negative; who arrives at 0 leaves
            now = push[passive]
            leaving = best <= 0
            ratios = np.divide(now, now - best, out=np.zeros_like(now), where=leaving & (now > best))
            share = ratios[leaving].min()
            push[passive] = now + share * (best - now)
            gone = [
                k for k, ratio, out in zip(passive, ratios, leaving, strict=True) if out and ratio <= share
            ]
            push[gone] = 0
            passive = [k for k in passive if k not in gone]
    raise SolverFailure("non-negative least squares did not converge")
