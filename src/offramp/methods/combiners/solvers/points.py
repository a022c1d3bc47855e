"""Factors a Gramian into points, vectors of few coordinates with the same inner products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

__all__ = ["Points", "SolverFailure", "points_of"]


class SolverFailure(ArithmeticError):
    """Raised where a solver found no weights: there are none, or it did not converge."""


@dataclass(frozen=True)
class Points:
    """m vectors g_k = norms[k] units[k], up to a rotation.

    Attributes:
        units: ``[m, r]``, each of norm 1, where r is the rank.
        norms: ``[m]``, the largest is 1.
    """

    units: np.ndarray
    norms: np.ndarray

    @property
    def points(self) -> np.ndarray:
        """The vectors g_k, ``[m, r]``."""
        points: np.ndarray = self.norms[:, None] * self.units
        return points


def points_of(gramian: Tensor) -> Points:
    """Points with the given Gramian, divided by the norm of the largest.

    The cosines are factorised, not the inner products: so a short row beside a long one keeps its digits.

    Args:
        gramian: ``[m, m]`` float64 on the CPU, positive semi-definite, with no zero on its diagonal.
    """
    matrix = gramian.numpy()
    norms = np.sqrt(matrix.diagonal())
    cosines = matrix / np.outer(norms, norms)
    values, vectors = np.linalg.eigh((cosines + cosines.T) / 2)
    kept = values > values[-1] * len(norms) * np.finfo(float).eps
    units = vectors[:, kept] * np.sqrt(values[kept])
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    return Points(units, norms / norms.max())
