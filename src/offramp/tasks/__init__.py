"""What the outputs of a network predict: losses and metrics."""

from offramp.tasks.boxes import Boxes
from offramp.tasks.classification import Classification
from offramp.tasks.task import Task

__all__ = ["Boxes", "Classification", "Task"]
