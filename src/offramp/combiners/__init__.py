"""K losses -> gradients."""

from offramp.combiners.backward import Backward
from offramp.combiners.combiner import Combiner
from offramp.combiners.sum import Sum

__all__ = ["Backward", "Combiner", "Sum"]
