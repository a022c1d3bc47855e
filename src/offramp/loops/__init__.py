"""How an epoch is organised."""

from offramp.loops.minibatch import minibatch_step

__all__ = ["minibatch_step"]
