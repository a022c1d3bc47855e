"""The task of a target: which one an output has that predicts what samples are labelled with."""

from __future__ import annotations

from offramp.data.targets import Target
from offramp.tasks.boxes import Boxes
from offramp.tasks.classification import Classification
from offramp.tasks.depth import Depth
from offramp.tasks.multi_label import MultiLabel
from offramp.tasks.normals import Normals
from offramp.tasks.regression import Regression
from offramp.tasks.segmentation import Segmentation
from offramp.tasks.task import Task

__all__ = ["task_of"]

_TASKS: dict[str, type[Task]] = {
    "class": Classification,
    "labels": MultiLabel,
    "values": Regression,
    "box": Boxes,
    "segmentation": Segmentation,
    "depth": Depth,
    "normals": Normals,
}


def task_of(key: str, target: Target) -> Task:
    """The task, with its defaults, that predicts a target.

    Args:
        key: Of the target among a batch's targets.
        target: What it is.
    """
    task: type[Task] = _TASKS[target.kind]
    return task(target=key)  # type: ignore[call-arg]  # of the base class, which takes nothing
