"""Gramian -> weights: K x K float64 solvers at the scale of the sum (m equal rows: weights of sum m)."""

from offramp.combiners.weightings.cagrad import cagrad
from offramp.combiners.weightings.imtl import imtl
from offramp.combiners.weightings.mgda import mgda
from offramp.combiners.weightings.nash_cccp import nash_mtl_cccp
from offramp.combiners.weightings.nash_mtl import nash_mtl
from offramp.combiners.weightings.rows import SolverFailed
from offramp.combiners.weightings.upgrad import upgrad

__all__ = ["SolverFailed", "cagrad", "imtl", "mgda", "nash_mtl", "nash_mtl_cccp", "upgrad"]
