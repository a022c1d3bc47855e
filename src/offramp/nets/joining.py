"""Join a trunk and a decoder for each task to a net, after a look whether the parts fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import torch
from torch import nn

from offramp.errors import UserError, an_object, shown
from offramp.nets._fitting import check_fit
from offramp.nets.channel_axis import ChannelAxis
from offramp.nets.multi_exit import MultiExitNet
from offramp.nets.multi_task import MultiTaskNet
from offramp.nets.sample import Example, checked_size
from offramp.nets.values import check_values
from offramp.tasks import Task
from offramp.tasks.outputs import are_exits, exit_name

__all__ = ["multi_task"]

Modules = nn.Module | Sequence[nn.Module]


@torch.inference_mode(False)
def multi_task(
    trunk: Modules,
    decoders: Mapping[str, tuple[Modules, Task]],
    *,
    input_size: tuple[int, ...] | None = None,
    example: Example | None = None,
    channel_axis: ChannelAxis | None = None,
) -> MultiTaskNet:
    """Make a multi-task network of a trunk and one decoder for each task.

    The trunk may be any module, of torchvision or timm too. The decoders read what its forward returns: a
    vector ``[N, D]``, a map ``[N, C, H, W]``, or a tuple, list or dict of Tensors (timm's
    ``features_only=True``; a map and the indices of its max-pooling)::

        trunk = timm.create_model("resnet18", num_classes=0)
        decoders = {
            "class": (nn.Linear(512, 100), Classification(target="class")),
            "box": (nn.Linear(512, 4), Boxes()),
        }
        net = multi_task(trunk, decoders, input_size=(3, 224, 224))

    A trunk that is a list of S stages gives a net with exits: each task then has a list of S decoders, one
    for each stage, and the outputs are ``exit 1 class``, ``exit 1 box``, ``exit 2 class``, ...

    The net is made of the parts themselves: training or moving one trains and moves the other.

    Args:
        trunk: A module that takes the input as its one argument; or a list of stages in a row.
        decoders: For each output's name its decoder and its task. A decoder takes the trunk's feature as its
            one argument.
        input_size: Shape of one input without the batch axis, for a run that shows whether the parts fit.
        example: An input for it where floats of that shape are none: a Tensor ``[N, ...]``, or a tuple or
            dict of such Tensors.
        channel_axis: Which axis of the trunk's feature holds its channels; for methods that work on them,
            where the layers do not tell. With exits also a mapping from exit (from 1) to axis.

    Raises:
        UserError: The parts do not fit; the line names the one that does not.
    """
    stages = _modules("the trunk", trunk)
    tasks, parts = _read(decoders)
    for name, modules in parts.items():
        if len(modules) != len(stages):
            counts = f"{_count(stages, 'stage')} and {shown(name)} {_count(modules, 'decoder')}"
            raise UserError(f"the trunk has {counts}; give each task a list with one decoder for each stage")
    if input_size is None and example is None:
        raise UserError(
            "multi_task runs the net once to see whether its parts fit; say what its inputs are like: the "
            "shape of one as `input_size=`, e.g. (3, 288, 384), or a batch of them as `example=`"
        )
    if input_size is not None:
        input_size = checked_size(input_size)
    for module in chain(stages, *parts.values()):
        check_values(module)
    outputs = {
        f"{exit_name(k)} {name}" if len(stages) > 1 else name: task
        for k in range(1, len(stages) + 1)
        for name, task in tasks.items()
    }
    in_order = chain.from_iterable(zip(*parts.values(), strict=True))
    net = MultiTaskNet(
        stages, in_order, outputs, input_size=input_size, example=example, channel_axis=channel_axis
    )
    check_fit(net)
    return net


def _read(
    decoders: Mapping[str, tuple[Modules, Task]],
) -> tuple[dict[str, Task], dict[str, list[nn.Module]]]:
    """The task and the decoders under each name.

    Raises:
        UserError: A decoder without a task, or a task without a decoder.
    """
    if not isinstance(decoders, Mapping):
        raise UserError(
            f"decoders is {an_object(decoders)}; give a dict with (decoder, task) under the name of "
            "each output"
        )
    if not decoders:
        raise UserError("decoders are none; give a dict with (decoder, task) under the name of each output")
    tasks, parts = {}, {}
    for name, pair in decoders.items():
        if not isinstance(name, str) or not name:
            raise UserError(f"an output's name must be text such as 'depth', got {shown(name)}")
        if are_exits([name]):
            raise UserError(f"{shown(name)} is the name of an exit; give the task another")
        decoder, task = pair if isinstance(pair, (tuple, list)) and len(pair) == 2 else (pair, None)
        if isinstance(decoder, Task) or decoder is None:
            raise UserError(f"the task {shown(name)} has no decoder; give {shown(name)}: (decoder, task)")
        if not isinstance(task, Task):
            raise UserError(
                f"the decoder {shown(name)} has no task; give {shown(name)}: (decoder, task) with a task "
                "such as offramp.tasks.Classification()"
            )
        tasks[name], parts[name] = task, _modules(f"the decoder {shown(name)}", decoder)
    return tasks, parts


def _modules(what: str, given: Modules) -> list[nn.Module]:
    """One module, or several in a list, as a list.

    Raises:
        UserError: It is no module; or a network that ends in logits of its own.
    """
    modules = []
    for module in given if isinstance(given, (list, tuple, nn.ModuleList)) else [given]:
        if not isinstance(module, nn.Module):
            raise UserError(f"{what} is {an_object(module)}; give an nn.Module, or a list of them")
        if isinstance(module, MultiExitNet):
            raise UserError(
                f"{what} is a MultiExitNet, which ends in logits of its own; give what makes its features, "
                "nn.Sequential(*net.stages)"
            )
        modules.append(module)
    if not modules:
        raise UserError(f"{what} has no modules; give an nn.Module, or a list of them")
    return modules


def _count(modules: Sequence[nn.Module], noun: str) -> str:
    return f"{len(modules)} {noun}{'s' if len(modules) > 1 else ''}"
