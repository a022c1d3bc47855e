"""K losses -> gradients."""

from offramp.combiners.sum import backward_sum

__all__ = ["backward_sum"]
