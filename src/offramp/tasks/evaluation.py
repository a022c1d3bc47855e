"""The metrics of a network's outputs over batches of samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from offramp.data.batch import Batch
from offramp.modes import evaluating
from offramp.tasks.task import Task

__all__ = ["Metrics", "evaluate", "same_task"]


@dataclass(frozen=True)
class Metrics:
    """Metrics of every output of a network, and of their ensemble.

    Attributes:
        outputs: Output -> metric -> value, for the outputs that some sample had a target for.
        ensemble: The primary metric -> its value for the outputs' joint prediction; None unless all have one
            task.
    """

    outputs: Mapping[str, Mapping[str, float]]
    ensemble: Mapping[str, float] | None = None


@torch.no_grad()
def evaluate(
    net: nn.Module,
    tasks: Mapping[str, Task],
    batches: Iterable[Batch],
    *,
    total: Callable[[Tensor], Tensor] = lambda counts: counts,
) -> Metrics:
    """Measure every output over all batches, in evaluation mode; the net's modes are restored.

    Args:
        net: Maps a batch's inputs to one Tensor per task.
        tasks: The task of each output by the output's name, in the order of the outputs.
        batches: On the net's device.
        total: Sums counts over the processes that share the batches.

    Raises:
        ValueError: No batches.
    """
    counts: dict[str, Tensor] = {}
    joint = same_task(tasks)

    def add(name: str, task: Task, output: Tensor, batch: Batch) -> None:
        if task.target in batch.targets:
            new = task.counts(output, batch.targets[task.target])
            counts[name] = counts[name] + new if name in counts else new

    with evaluating(net):
        for batch in batches:
            present = [name for name, task in tasks.items() if task.target in batch.targets]
            if not len(batch) and all(name in counts for name in present):
                continue  # the last share of a process, on which attention over texts cannot run
            outputs = dict(zip(tasks, net(batch.inputs), strict=True))
            for name, task in tasks.items():
                add(name, task, outputs[name], batch)
            if joint:
                add("", joint, joint.ensemble([*outputs.values()]), batch)  # no output has an empty name
            del outputs  # before the next batch runs
    if not counts:
        raise ValueError("there is nothing to evaluate on: no batches")
    sums = {name: total(each).cpu() for name, each in counts.items()}
    outputs = {name: tasks[name].metrics(each) for name, each in sums.items() if name}
    if joint is None or "" not in sums:
        return Metrics(outputs)
    return Metrics(outputs, {joint.primary: joint.metrics(sums[""])[joint.primary]})


def same_task(tasks: Mapping[str, Task]) -> Task | None:
    """The task that all outputs share, as the exits of a network do; None if they differ."""
    shared = next(iter(tasks.values()))
    return shared if len(tasks) > 1 and all(task == shared for task in tasks.values()) else None
