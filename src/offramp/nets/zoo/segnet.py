"""SegNet for one task, and for three tasks that share all but their heads."""

from __future__ import annotations

from offramp.errors import UserError, guess, shown
from offramp.nets.multi_task import MultiTaskNet
from offramp.nets.zoo._segnet import SIZE, TASKS, SegNet, head, initialise, log_variances
from offramp.nets.zoo.builder import builder

__all__ = ["segnet", "segnet_split"]


@builder
def segnet(num_classes: int = 13, width: int = 64, task: str = "segmentation") -> MultiTaskNet:
    """SegNet with one output, for images whose sides are multiples of 32.

    Args:
        num_classes: How many classes a segmentation tells apart.
        width: Channels of the finest scale; the others have 2, 4, 8 and 8 times as many.
        task: What its output is: ``segmentation``, ``depth`` or ``normals``.

    Raises:
        UserError: No such task.
    """
    if task not in TASKS:
        raise UserError(
            f"segnet has no task {shown(task)}{guess(task, TASKS)}; there are: {', '.join(TASKS)}"
        )
    net = MultiTaskNet(
        [SegNet(width)], [head(task, width, num_classes)], {task: TASKS[task]}, input_size=SIZE
    )
    initialise(net)
    return net


@builder
def segnet_split(num_classes: int = 13, width: int = 64) -> MultiTaskNet:
    """SegNet with three heads on its last map, for images whose sides are multiples of 32.

    Its outputs are ``segmentation``, ``depth`` and ``normals``. All but the heads is shared: one fork with
    three consumers.

    Args:
        num_classes: How many classes the segmentation tells apart.
        width: Channels of the finest scale; the others have 2, 4, 8 and 8 times as many.
    """
    heads = [head(task, width, num_classes) for task in TASKS]
    net = MultiTaskNet([SegNet(width)], heads, TASKS, input_size=SIZE)
    net.log_variances = log_variances()
    initialise(net)
    return net
