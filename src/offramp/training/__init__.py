"""Train a network: fit, recipes, checkpoints, run folders."""

from offramp.training.fit import fit
from offramp.training.interrupt import Interrupted
from offramp.training.recipe import Recipe
from offramp.training.run import Run

__all__ = ["Interrupted", "Recipe", "Run", "fit"]
