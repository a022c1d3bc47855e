"""Train a network: fit and the trainer."""

from offramp.training.fit import fit
from offramp.training.interrupt import Interrupted

__all__ = ["Interrupted", "fit"]
