"""K losses -> gradients."""

from offramp.methods.combiners.backward import Backward
from offramp.methods.combiners.combiner import Combiner
from offramp.methods.combiners.sum import Sum

__all__ = ["Backward", "Combiner", "Sum"]
