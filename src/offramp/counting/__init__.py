"""What a network costs: parameters, operations of a forward pass, operations of a training step."""

from offramp.counting.conventions import CONVENTIONS
from offramp.counting.costs import Cost, ExitCost, cost
from offramp.counting.training import PaperOperations, paper_operations, training_macs

__all__ = ["CONVENTIONS", "Cost", "ExitCost", "PaperOperations", "cost", "paper_operations", "training_macs"]
