"""The forward passes of a batch: one, or one for each data set that it has samples of.

Each set's images have sizes and statistics of their own, so that a net reads set by set, and batch norm
normalises over the samples of one set at a time. What belongs to outputs that a set has no targets for keeps
its running statistics meanwhile: a decoder shall be evaluated with statistics of what it is trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any, cast

from torch import Tensor, nn

from offramp.copying import values_kept
from offramp.data.batch import Batch
from offramp.data.joint_batch import JointBatch
from offramp.nets import Net
from offramp.nets.state_owners import owners_of_state
from offramp.tasks import Task

__all__ = ["ForwardByParts"]

Passed = tuple[Sequence[Tensor], Sequence[Tensor] | None, Any]  # outputs, features, trunk


class ForwardByParts:
    """Runs a net on batches, whatever number of data sets they are of.

    Args:
        net: The net.
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def __call__(self, batch: Batch, tasks: Sequence[Task], forward: Callable[[Batch], Passed]) -> Passed:
        """Run a forward pass for each set.

        Args:
            batch: The samples.
            tasks: The task of each output.
            forward: Gives outputs, features and trunk for samples of one set.

        Returns:
            Each output and feature for the samples of the set that has the output's target. Those of a batch
            of several sets have no common trunk.
        """
        parts = [*batch.parts.values()] if isinstance(batch, JointBatch) else [batch]
        passed = []
        for part in parts:
            with self._statistics_of_others_kept(part, tasks):
                passed.append(forward(part))
        if len(passed) == 1:
            return passed[0]
        source = [next((p for p, part in enumerate(parts) if _offers(part, task)), 0) for task in tasks]
        count = len(passed[0][0])  # fewer than there are tasks if the pass has stopped early
        outputs = [passed[source[k]][0][k] for k in range(count)]
        if passed[0][1] is None:
            return outputs, None, None
        return outputs, [cast("Sequence[Tensor]", passed[source[k]][1])[k] for k in range(count)], None

    @contextmanager
    def _statistics_of_others_kept(self, part: Batch, tasks: Sequence[Task]) -> Iterator[None]:
        """Put back what belongs only to outputs that the samples' set has no targets for."""
        others = {k for k, task in enumerate(tasks) if not _offers(part, task)}
        with ExitStack() as stack:
            for name, buffer in self.net.named_buffers() if others else ():
                if others.issuperset(self._owners.get(name, (None,))):
                    stack.callback(values_kept(buffer))
            yield

    @cached_property
    def _owners(self) -> dict[str, tuple[int, ...]]:
        return owners_of_state(cast("Net", self.net))


def _offers(part: Batch, task: Task) -> bool:
    return part.keys is None or task.target in part.keys
