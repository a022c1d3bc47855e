"""Toy problems: what the methods do on two losses of two parameters, where it can be seen.

Apart from the diagnosis of trained nets: a problem, the descent of every method on it, its table and picture.
"""

from offramp.analysis.toys.descent import Descent, descend
from offramp.analysis.toys.problems import CoupledProblem, Landscape, Problem
from offramp.analysis.toys.report import table, write

__all__ = ["CoupledProblem", "Descent", "Landscape", "Problem", "descend", "table", "write"]
