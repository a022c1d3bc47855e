"""A step's outputs -> K losses."""

from offramp.objectives.objective import Objective
from offramp.objectives.step import Step
from offramp.objectives.task_loss import TaskLoss

__all__ = ["Objective", "Step", "TaskLoss"]
