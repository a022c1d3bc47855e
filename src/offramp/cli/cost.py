"""``offramp cost``: what every exit costs, and what a training step costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from offramp.cli.answer import OUTPUT, Answer, Output
from offramp.errors import UserError

if TYPE_CHECKING:
    from offramp.methods import Method

__all__ = ["CostOf"]


@dataclass(frozen=True)
class CostOf:
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
    output: Output = OUTPUT

    def run(self) -> Answer:
        """Count the operations of the network, and of a training by the method."""
        from offramp.counting import cost
        from offramp.nets.text import parse_net, sketch
        from offramp.text_table import aligned

        method = self._method()
        size = None if self.size is None else (3, self.size, self.size)
        net = sketch(self.net, self.classes, size)
        counted = cost(net)
        name, arguments = parse_net(self.net)
        document = {
            "net": name,
            "arguments": arguments,
            "input_size": list(net.input_size),
            "convention": counted.convention,
            "params": counted.params,
            "exits": [{"params": e.params, "flops": e.flops} for e in counted.exits],
        }
        rows = [
            [str(k), f"{e.params:,}", "unknown" if e.flops is None else f"{e.flops:,}"]
            for k, e in enumerate(counted.exits, start=1)
        ]
        image = f"{'x'.join(map(str, net.input_size))} image"
        text = (
            f"{aligned(['exit', 'params', 'FLOPs'], rows)}\n\n"
            f"{counted.params:,} params in all; FLOPs for one {image}, counted as {counted.convention}"
        )
        if counted.unknown:
            document["unknown"] = list(counted.unknown)
            text += "".join(f"\nunknown: {reason}" for reason in counted.unknown)
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
        """MACs for each training image of an epoch, beside joint training's: true, and by the paper's."""
        from offramp.counting import paper_operations
        from offramp.forks import Partition
        from offramp.methods import METHODS
        from offramp.nets.text import build
        from offramp.training.operations import training_operations

        net = build(self.net, self.classes, size)
        joint, counted = (training_operations(net, one) for one in (METHODS["joint"], method))
        paper = paper_operations(net.num_exits)
        modelled = None
        if not set(method.axes) - {"fork", "objective"} and not method.objective.needs:
            modelled = paper.dfs if any(isinstance(rule, Partition) for rule in method.forks) else paper.joint
        training: dict[str, Any] = {
            "method": method.name,
            "options": method.options,
            "macs": counted.macs,
            "joint_macs": joint.macs,
            "saved_percent": _saved(counted.macs, joint.macs),
            "paper": {
                "unit": "N^3 operations",
                "operations": modelled,
                "joint_operations": paper.joint,
                "saved_percent": _saved(modelled, paper.joint),
            },
        }
        if counted.once:
            training["macs_once_an_epoch"] = counted.once
        if counted.unknown:
            training["unknown"] = list(counted.unknown)
        return training


def _saved(operations: int | None, joint: int | None) -> float | None:
    """Percent of the joint operations; below 0 if there are more."""
    return None if operations is None or not joint else 100 * (1 - operations / joint)


def _training_text(training: dict[str, Any]) -> str:
    from offramp.text_table import aligned

    paper = training["paper"]
    rows = [
        ["joint", _count(training["joint_macs"]), _count(paper["joint_operations"], " N^3")],
        [training["method"], _count(training["macs"]), _count(paper["operations"], " N^3", "not modelled")],
        _compared(training, paper),
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


def _compared(*parts: dict[str, Any]) -> list[str]:
    """What each part saves, or how many times joint training it is."""
    saved = [part["saved_percent"] for part in parts]
    if (saved[0] or 0) < 0:
        return ["times joint", *("" if each is None else f"{1 - each / 100:.3f}" for each in saved)]
    return ["saved", *("" if each is None else f"{each:.2f} %" for each in saved)]
