"""Solvers that several methods share: small dense problems in float64, by NumPy on the CPU."""

from offramp.methods.combiners.solvers.cone import dual_cone_push
from offramp.methods.combiners.solvers.hull import ZERO, hull_minimum
from offramp.methods.combiners.solvers.points import Points, SolverFailure, points_of

__all__ = ["ZERO", "Points", "SolverFailure", "dual_cone_push", "hull_minimum", "points_of"]
