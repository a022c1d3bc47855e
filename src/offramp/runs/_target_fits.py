"""Whether the targets of a data set are those that the outputs of a net are trained for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from offramp.data.targets import Target
from offramp.errors import UserError, shown
from offramp.nets import Net
from offramp.tasks.of_target import KINDS

if TYPE_CHECKING:
    from offramp.data import JointData, OpenedData

__all__ = ["check_found", "check_read", "check_same_classes", "check_sets_read", "check_sizes", "numbered"]


def check_found(net: Net, data: OpenedData[Any]) -> None:
    """Check that every output finds its target, and that it is of the kind that its task learns from.

    Raises:
        UserError: An output does not.
    """
    for name, task in net.outputs.items():
        target = data.targets.get(task.target)
        if target is None:
            has = ", ".join(map(shown, data.targets))
            alone = " alone" if len(data.targets) == 1 else ""
            of_maps = any(each.dense for each in data.targets.values())  # of which no column is chosen
            column = "" if of_maps else "name its column by `tasks=...` if there is one, "
            raise UserError(
                f"{name} looks for {shown(task.target)} among the targets, and {data.name} has {has}{alone}; "
                f"give data that have it, {column}or train it in your own loop, by "
                "offramp.method(...).bind(net)"
            )
        kind = KINDS.get(type(task), target.kind)  # a task of a user's own may learn from any
        if kind != target.kind:
            raise UserError(
                f"{name} is {type(task).__name__}, which learns from a target of kind {shown(kind)}, and "
                f"{shown(task.target)} of {data.name} is of kind {shown(target.kind)}; give the output "
                "another task or target"
            )


def check_read(net: Net, tasks: Mapping[str, str]) -> None:
    """Check that an output of the net learns from every target that a recipe's ``tasks`` asks for.

    Raises:
        UserError: One has none.
    """
    read = list(dict.fromkeys(task.target for task in net.outputs.values()))
    for name in tasks:
        if name not in read:
            raise UserError(
                f"tasks names {shown(name)}, and no output of the net has such a target; they have "
                f"{', '.join(map(shown, read))}: leave {shown(name)} out, or give the net an output for it"
            )


def check_sets_read(net: Net, data: JointData) -> None:
    """Check that an output of the net learns from a target of each of several sets.

    Raises:
        UserError: One would take its part of the batches for nothing.
    """
    read = {task.target for task in net.outputs.values()}
    for name, keys in data.keys.items():
        if not read.intersection(keys.values()):
            has = ", ".join(map(shown, keys.values()))
            raise UserError(
                f"the data set {shown(name)} has targets for {has}, and no output of the net learns from "
                "them; leave the set out, or give the net an output for it"
            )


def check_sizes(net: Net, outputs: Sequence[Tensor], data: OpenedData[Any]) -> None:
    """Check that the outputs for one sample have as many numbers as their targets need.

    Raises:
        UserError: One has not.
    """
    for name, task, output in zip(net.outputs, net.outputs.values(), outputs, strict=True):
        if type(task) not in KINDS or task.target not in data.targets:  # but in another set of several
            continue
        if len(output) != 1:
            raise UserError(
                f"an output of the net is {[*output.shape]} for one image: its first axis is not the batch; "
                "permute the feature that its head reads, or build its layers with batch_first=True"
            )
        target = data.targets[task.target]
        needed = (target.size, *data.input_size[1:]) if target.dense else (target.size,)
        if tuple(output.shape[1:]) == needed:
            continue
        if target.kind == "class" and output.ndim == 2:
            _refuse_classes(net, outputs, data, task.target)
        raise UserError(
            f"{name} gives {[*output.shape[1:]]} for a sample, and {shown(task.target)} of {data.name} needs "
            f"{[*needed]}; build the net with an output of that size"
        )


def _refuse_classes(net: Net, outputs: Sequence[Tensor], data: OpenedData[Any], key: str) -> None:
    tasks = net.outputs.values()
    told = {out.shape[-1] for task, out in zip(tasks, outputs, strict=True) if task.target == key}
    classes = data.targets[key].size
    several = len({task.target for task in tasks}) > 1
    raise UserError(
        f"the net's {f'outputs for {shown(key)}' if several else 'exits'} tell "
        f"{' or '.join(map(str, sorted(told)))} classes apart, "
        f"{data.name} has {classes}; build it with as many, e.g. num_classes={classes}"
    )


def check_same_classes(trained_on: Mapping[str, Target], data: OpenedData[Any]) -> None:
    """Check that the set has the classes that a net was trained to tell apart.

    The names 0, 1, 2, ... stand for words that nobody knows.

    Raises:
        UserError: It has others.
    """
    for key, target in trained_on.items():
        if key not in data.targets:
            continue
        known, present = target.classes, data.targets[key].classes
        nameless = (numbered(known) and _words(present)) or (numbered(present) and _words(known))
        if known != present and not nameless:
            raise UserError(
                f"the net was trained on the classes {shown([*known])}, "
                f"{data.name} has {shown([*present])}; give the same classes in the same order"
            )


def _words(classes: Sequence[str]) -> bool:
    """Whether the classes have names other than numbers."""
    return not any(name.removeprefix("-").isdecimal() for name in classes)


def numbered(classes: Sequence[str]) -> bool:
    """Whether classes are called 0, 1, 2, ..., as those are that have no names."""
    return list(classes) == [str(place) for place in range(len(classes))]
