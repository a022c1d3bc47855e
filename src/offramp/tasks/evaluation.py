"""The metrics of a network's outputs over batches of samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from offramp.data.batch import Batch
from offramp.data.smaller_batches import SmallerBatches
from offramp.errors import UserError
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
        UserError: Outputs that are not numbers, of which no metric says anything.
        ValueError: No batches.
    """
    joint = same_task(tasks)
    measured = {**tasks, "": joint} if joint else tasks  # no output has an empty name
    counts: dict[str, Tensor] = {}
    blank: dict[str, Tensor] = {}  # outputs for no samples
    broken: dict[str, Tensor] = {}  # how many samples have outputs that are not numbers
    smaller = SmallerBatches(_device_of(net), math.lcm(*(task.together for task in tasks.values())))

    def count(batch: Batch) -> dict[str, Tensor]:
        outputs = dict(zip(tasks, net(batch.inputs), strict=True))
        for name, output in outputs.items():
            broken[name] = broken.get(name, 0) + _broken(output)
        if joint:
            outputs[""] = joint.ensemble([*outputs.values()])
        if not blank:
            blank.update({name: output[:0].clone() for name, output in outputs.items()})
        targets = batch.targets
        present = [name for name, task in measured.items() if task.target in targets]
        return {
            name: measured[name].counts(outputs[name], targets[measured[name].target]) for name in present
        }

    with evaluating(net):
        for batch in batches:
            wanted = {name for name, task in measured.items() if task.target in batch.targets}
            if not len(batch) and blank and wanted <= counts.keys():
                continue  # the last share of a process, on which attention over texts cannot run
            for new in smaller(batch, count):
                for name, each in new.items():
                    counts[name] = counts[name] + each if name in counts else each
    _check_numbers(broken, total)
    sums = _over_processes(counts, blank, measured, total) if blank else {}
    if not sums:
        raise ValueError("there is nothing to evaluate on: no batches")
    values = {name: measured[name].metrics(each) for name, each in sums.items()}
    ensemble = values.pop("", None)
    if joint is None or ensemble is None:
        return Metrics(values)
    return Metrics(values, {joint.primary: ensemble[joint.primary]})


def _broken(output: Tensor) -> Tensor:
    """How many samples have a NaN or infinity in an output; minus infinity rules a class out."""
    bad = output.isnan() | output.isposinf()
    return bad.flatten(1).any(1).sum() if bad.ndim > 1 else bad.sum()


def _check_numbers(broken: Mapping[str, Tensor], total: Callable[[Tensor], Tensor]) -> None:
    if not broken:
        return
    counts = total(torch.stack([*broken.values()])).tolist()
    bad = [f"{name} for {count} of them" for name, count in zip(broken, counts, strict=True) if count]
    if bad:
        raise UserError(
            f"the net gives no finite numbers to samples in evaluation mode, {', '.join(bad)}, so that "
            "nothing is measured; look for NaN or infinity in inputs, weights and running statistics"
        )


def _over_processes(
    counts: Mapping[str, Tensor],
    blank: Mapping[str, Tensor],
    tasks: Mapping[str, Task],
    total: Callable[[Tensor], Tensor],
) -> dict[str, Tensor]:
    """The counts of all processes by output, of the outputs that a sample of any process has a target for.

    All processes take part in each sum: one whose samples lack a target counts no samples.
    """
    device = next(iter(blank.values())).device
    there = total(torch.tensor([name in counts for name in tasks], dtype=torch.int64, device=device)).tolist()
    sums = {}
    for (name, task), number in zip(tasks.items(), there, strict=True):
        if number:
            none = blank[name]
            mine = counts[name] if name in counts else task.counts(none, task.example_target(none))
            sums[name] = total(mine).cpu()
    return sums


def _device_of(net: nn.Module) -> torch.device:
    return next((p.device for p in net.parameters()), torch.device("cpu"))


def same_task(tasks: Mapping[str, Task]) -> Task | None:
    """The task that all outputs share, as the exits of a network do; None if they differ."""
    shared = next(iter(tasks.values()))
    return shared if len(tasks) > 1 and all(task == shared for task in tasks.values()) else None
