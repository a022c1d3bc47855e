"""How good the outputs are."""

from offramp.metrics.accuracy import Accuracy, accuracy, count_correct, evaluate

__all__ = ["Accuracy", "accuracy", "count_correct", "evaluate"]
