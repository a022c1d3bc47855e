"""Products of whatever runs: how many multiply-accumulates operators have, and a tally of them."""

from offramp.flops.operators import FORMULAS, Operators, memory_of, without_formula
from offramp.flops.tally import Counter, Tally

__all__ = ["FORMULAS", "Counter", "Operators", "Tally", "memory_of", "without_formula"]
