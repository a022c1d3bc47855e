"""A step's outputs -> K losses."""

from offramp.objectives.cross_entropy import cross_entropy
from offramp.objectives.step import Step

__all__ = ["Step", "cross_entropy"]
