"""Objectives: a step's outputs become one loss each."""

from offramp.methods.objectives.objective import Objective
from offramp.methods.objectives.step import Step
from offramp.methods.objectives.task_loss import TaskLoss

__all__ = ["Objective", "Step", "TaskLoss"]
