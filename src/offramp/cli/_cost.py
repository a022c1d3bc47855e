"""``offramp cost``: what every exit costs, and what a training step costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from offramp.cli._answer import OUTPUT, Answer, OutputFlags
from offramp.errors import UserError

if TYPE_CHECKING:
    from offramp.methods import Method
    from offramp.nets import Net

__all__ = ["CostCommand"]


@dataclass(frozen=True)
class CostCommand:
    """Count params and FLOPs of every exit, in the net's published convention, for one image.

    With a method, training MACs too, for each image of an epoch: the true count, and the paper's Eq 10-14.
    """

    EXAMPLES: ClassVar[str] = """\
  offramp cost --net vgg7 --classes 100
  offramp cost --net vgg7:width=32 --method dfs --beta 0.5
  offramp cost --net resnet18 --size 64
  offramp cost --net msdnet_cifar --method dfs --set own_to_shared=1"""

    net: str
    """one of `offramp nets`, its arguments after a colon: vgg7:width=16; or your own: file.py:build"""
    classes: int | None = None
    """number of classes; by default the net's own"""
    size: int | None = None
    """side of the images in pixels; by default the net's own"""
    method: str | None = None
    """one of `offramp methods`"""
    beta: float | None = None
    """share of the channels that DFS keeps for later exits; the same as --set beta=..."""
    set: Annotated[
        tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE ...")
    ] = ()
    """options of the method"""
    output: OutputFlags = OUTPUT

    def run(self) -> Answer:
        """Count the operations of the network, and of a training by the method."""
        from offramp.counting import cost
        from offramp.nets.text import parse_net, sketch
        from offramp.tasks.outputs import are_exits, column
        from offramp.text_table import aligned

        method = self._method()
        size = None if self.size is None else (3, self.size, self.size)
        net = sketch(self.net, self.classes, size)
        net_cost = cost(net)
        name, arguments = parse_net(self.net)
        document = {
            "net": name,
            "arguments": arguments,
            "input_size": list(net.input_size),
            "convention": net_cost.convention,
            "params": net_cost.params,
            "exits": [{"params": e.params, "flops": e.flops} for e in net_cost.exits],
        }
        if not (exits := are_exits(net.outputs)):
            document["outputs"] = list(net.outputs)
        rows = [
            [column(name), f"{e.params:,}", "unknown" if e.flops is None else f"{e.flops:,}"]
            for name, e in zip(net.outputs, net_cost.exits, strict=True)
        ]
        image = f"{'x'.join(map(str, net.input_size))} image"
        text = (
            f"{aligned(['exit' if exits else 'output', 'params', 'FLOPs'], rows)}\n\n"
            f"{net_cost.params:,} params in all; FLOPs for one {image}, counted as {net_cost.convention}"
        )
        if net_cost.unknown:
            document["unknown"] = list(net_cost.unknown)
            text += "".join(f"\nunknown: {reason}" for reason in net_cost.unknown)
        if method is not None:
            document["training"] = training = self._training(method, size)
            text += f"\n\n{_training_text(training)}"
        return Answer(document, text)

    def _method(self) -> Method | None:
        from offramp.methods import method
        from offramp.recipes.file import setting

        options = dict(setting(text) for texts in self.set for text in texts)
        if self.beta is not None:
            options["beta"] = self.beta
        if self.method is None and options:
            raise UserError("options are a method's; give --method too, e.g. --method dfs")
        return None if self.method is None else method(self.method, options)

    def _training(self, method: Method, size: tuple[int, ...] | None) -> dict[str, Any]:
        """Training MACs per image of an epoch beside those of joint training, counted and by the paper."""
        from offramp.methods import METHODS
        from offramp.nets.text import build
        from offramp.training.operations import training_operations

        net = build(self.net, self.classes, size)
        joint = training_operations(net, METHODS["joint"])
        operations = training_operations(net, method)
        paper_joint, paper_count = _by_the_paper(net, method)
        training: dict[str, Any] = {
            "method": method.name,
            "options": method.options,
            "macs": operations.macs,
            "joint_macs": joint.macs,
            "saved_percent": _saved(operations.macs, joint.macs),
            "paper": {
                "unit": "N^3 operations",
                "operations": paper_count,
                "joint_operations": paper_joint,
                "saved_percent": _saved(paper_count, paper_joint),
            },
        }
        if operations.once:
            training["macs_once_an_epoch"] = operations.once
        if operations.unknown:
            training["unknown"] = list(operations.unknown)
        return training


def _by_the_paper(net: Net, method: Method) -> tuple[int | None, int | None]:
    """Operations of joint training and of the method, in the paper's model of a net with exits."""
    from offramp.counting import paper_operations
    from offramp.forks import Partition
    from offramp.nets import MultiExitNet

    if not isinstance(net, MultiExitNet):
        return None, None
    paper = paper_operations(net.num_exits)
    if set(method.axes) - {"fork", "objective"} or method.objective.needs:
        return paper.joint, None
    return paper.joint, paper.dfs if any(
        isinstance(rule, Partition) for rule in method.forks
    ) else paper.joint


def _saved(operations: int | None, joint: int | None) -> float | None:
    """Percent of the joint operations; below 0 if there are more."""
    return None if operations is None or not joint else 100 * (1 - operations / joint)


def _training_text(training: dict[str, Any]) -> str:
    from offramp.text_table import aligned

    paper = training["paper"]
    rows = [
        ["joint", _count(training["joint_macs"]), _count(paper["joint_operations"], " N^3", "not modelled")],
        [training["method"], _count(training["macs"]), _count(paper["operations"], " N^3", "not modelled")],
        _last_row(training, paper),
    ]
    lines = [
        aligned(["training", "MACs, one image", "paper's model"], rows),
        "",
        "MACs: convolutions and products that really run, forward and backward, for each image of an epoch;",
        "not what a batch of any size costs, as inner products of gradients and solvers.",
        "The paper's model (Eq 10-14): all features N x N, heads as dear as layers; beta does not enter it.",
    ]
    if "macs_once_an_epoch" in training:
        once = training["macs_once_an_epoch"]
        lines.append(f"On top, once an epoch: {once:,} MACs for each image of a batch.")
    lines += [f"unknown: {reason}" for reason in training.get("unknown", ())]
    return "\n".join(lines)


def _count(operations: int | None, unit: str = "", unknown: str = "unknown") -> str:
    return unknown if operations is None else f"{operations:,}{unit}"


def _last_row(*parts: dict[str, Any]) -> list[str]:
    """Last row of the table: the percentage that each part saves, or the multiple of joint training."""
    percents = [part["saved_percent"] for part in parts]
    if (percents[0] or 0) < 0:
        return ["times joint", *("" if p is None else f"{1 - p / 100:.3f}" for p in percents)]
    return ["saved", *("" if p is None else f"{p:.2f} %" for p in percents)]
