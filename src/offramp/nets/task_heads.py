"""A head for each task on a network of the zoo, in place of its exits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import nn

from offramp.checks import described, of_kind
from offramp.data.targets import Target
from offramp.errors import UserError, shown
from offramp.forks.fork import Fork
from offramp.nets.multi_exit import MultiExitNet
from offramp.nets.multi_task import MultiTaskNet
from offramp.nets.net import Net
from offramp.nets.other_names import names_in
from offramp.nets.zoo.catalogue import NETS, build_named
from offramp.tasks.of_target import task_of

__all__ = ["noted_targets", "with_tasks"]


def with_tasks(net: MultiExitNet, targets: Mapping[str, Target]) -> MultiTaskNet:
    """Make a multi-task net of a multi-exit net of the zoo: its stages, and its last head for each task.

    The stages are the net's own. Each head is a new one, as large as its target needs. ``spec`` notes the
    targets, so that a run can build the net again.

    Args:
        net: A net of the zoo.
        targets: What each output, by its name, predicts.

    Raises:
        UserError: The net is none of the zoo, or has no exits or no plain forks; or a target is one for every
            pixel, of which these nets' heads know nothing.
    """
    of_kind("net", net, Net, "a net of the zoo, e.g. offramp.nets.resnet18()")
    if not isinstance(targets, Mapping) or not all(isinstance(each, Target) for each in targets.values()):
        raise UserError(
            f"targets are {described(targets)}, must map the name of each output to an offramp.data.Target"
        )
    arguments = dict(net.spec or {})
    name = arguments.pop("net", type(net).__name__)
    if name not in NETS:
        raise UserError(
            f"{name} is no net of the zoo, whose heads can be built again; put decoders of your own on its "
            "stages, by offramp.multi_task(nn.Sequential(*net.stages), ...)"
        )
    if not isinstance(net, MultiExitNet):
        raise UserError(
            f"{name} has tasks of its own and no exits whose head others could be like; take a net with "
            "exits, e.g. resnet18, or put decoders of your own on a trunk by offramp.multi_task"
        )
    if any(type(fork) is not Fork for fork in net.forks):
        raise UserError(
            f"{name} has forks that are not plain, between its stages; build it without slice_beta, or take "
            "them off by offramp.forks.remove(net)"
        )
    dense = [f"{shown(key)} ({target.kind})" for key, target in targets.items() if target.dense]
    if dense:
        raise UserError(
            f"{name} gives one vector for an image, and {', '.join(dense)} wants a value for every pixel; "
            "take segnet_split, segnet_mtan or segnet_cross_stitch, or offramp.multi_task with a decoder "
            "that gives a map"
        )
    like = next(net.parameters())
    sized = (build_named(name, arguments | {"num_classes": target.size}) for target in targets.values())
    heads = [cast(MultiExitNet, other).heads[-1].to(like) for other in sized]
    made = MultiTaskNet(
        [nn.Sequential(*net.stages)],
        heads,
        {key: task_of(key, target) for key, target in targets.items()},
        input_size=net.input_size,
    )
    made.convention = net.convention
    made.other_names = names_in(made, net)
    arguments.pop("num_classes", None)
    noted = {key: {"kind": target.kind, "size": target.size} for key, target in targets.items()}
    made.spec = {"net": name, **arguments, "tasks": noted}
    return made


def noted_targets(tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, Target]:
    """The targets that ``spec["tasks"]`` notes, their classes by number."""
    return {
        key: Target(noted["kind"], tuple(map(str, range(noted["size"]))), noted["size"])
        for key, noted in tasks.items()
    }
