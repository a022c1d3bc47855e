"""Train a network: fit and the trainer."""

from offramp.training.fit import fit
from offramp.training.interrupt import Interruption

__all__ = ["Interruption", "fit"]
