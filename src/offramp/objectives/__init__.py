"""A step's outputs -> K losses."""

from offramp.objectives.cross_entropy import CrossEntropy
from offramp.objectives.objective import Objective
from offramp.objectives.step import Step

__all__ = ["CrossEntropy", "Objective", "Step"]
