"""How an epoch is organised."""

from offramp.loops.minibatch import Minibatch

__all__ = ["Minibatch"]
