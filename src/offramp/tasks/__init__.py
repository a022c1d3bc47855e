"""What the outputs of a network predict: losses and metrics."""

from offramp.tasks.boxes import Boxes
from offramp.tasks.classification import Classification
from offramp.tasks.depth import Depth
from offramp.tasks.multi_label import MultiLabel
from offramp.tasks.normals import Normals
from offramp.tasks.regression import Regression
from offramp.tasks.segmentation import Segmentation
from offramp.tasks.task import Task

__all__ = [
    "Boxes",
    "Classification",
    "Depth",
    "MultiLabel",
    "Normals",
    "Regression",
    "Segmentation",
    "Task",
]
