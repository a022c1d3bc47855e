"""A forward pass through a multi-exit net that keeps its features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from offramp.checks import count_of, of_kind
from offramp.errors import UserError
from offramp.forks.forked_net import ForkedNet
from offramp.forks.scales import scales_of, with_scales
from offramp.nets._last_linear import LayerRecorder, LinearCall, opened
from offramp.nets.exits import Exit, Part, exits, reads_previous
from offramp.unchanged import unchanged

__all__ = ["Passage", "kept_exits", "last_linear", "passage", "walked"]


class Passage(NamedTuple):
    """Outputs and features of one forward pass, all of them in the graph.

    Attributes:
        outputs: Logits of every exit: K tensors ``[N, classes]``.
        features: What each head's last linear layer reads, ``[N, D_k]``, whatever functions follow it; of
            several tokens, the one that the logits are made of. None where no linear layer makes the logits.
        trunk: What every stage but the last hands to its fork.
    """

    outputs: list[Tensor]
    features: list[Tensor | None]
    trunk: list[Any]


def passage(net: ForkedNet, x: Any) -> Passage:
    """Run the forward pass of a net and keep its features; its outputs are those of ``net(x)``."""
    kept = Passage([], [], [])
    for exit in kept_exits(net, x):
        kept.outputs.append(exit.logits)
        kept.features.append(exit.feature)
        if exit.number <= len(net.forks):
            kept.trunk.append(exit.trunk)
    return kept


def walked(net: ForkedNet, x: Any) -> Passage:
    """Run the forward pass of a net of any number of heads at each fork and keep its trunk, no features."""
    trunk: list[Any] = []

    def call(part: Part, module: nn.Module, *inputs: Any) -> Any:
        if part != "fork":
            return module(*inputs)
        trunk.append(_apart(inputs[0]))
        return module(trunk[-1])

    outputs = net.walk(x, call)
    return Passage(outputs, [None] * len(outputs), trunk)


def last_linear(net: ForkedNet, exit: int) -> nn.Linear:
    """The layer that turns an exit's feature into its logits.

    Args:
        net: The net, which is run once to see, unless it is plain, and left as it was.
        exit: The exit's number, from 1.

    Raises:
        UserError: No linear layer makes the logits.
    """
    of_kind("net", net, ForkedNet, "a net with exits or tasks")
    if count_of("exit", exit) > len(net.heads):
        raise UserError(f"exit is {exit}, and the net has the exits 1 to {len(net.heads)}")
    head = net.heads[exit - 1]
    parts = None if reads_previous(head) else opened(head)
    if parts is not None and not parts[2]:
        return parts[1]
    layer = None
    for mode in (True, False):  # dropout may hide in training which token it is that became the logits
        with unchanged(net), torch.no_grad():
            layer = next(e.layer for e in kept_exits(net.train(mode), net.sample(4)) if e.number == exit)
        if layer is None:
            raise UserError(
                f"head {exit} ({type(head).__name__}) has no feature to compare with those of other exits: "
                "no nn.Linear makes its logits; "
                "end it in one, or take a method that reads logits alone, such as kd"
            )
    assert layer is not None  # of the second look
    return layer


def kept_exits(net: ForkedNet, x: Any) -> Iterator[Exit]:
    """Run a net one exit at a time, and keep for each the feature that its last linear layer reads."""
    keeper = _FeatureKeeper(net)
    for exit in exits(net.stages, net.forks, net.heads, x, keeper):
        feature = None if keeper.read is None else keeper.read.feature(exit.logits)
        layer = None if keeper.read is None or feature is None else keeper.read.layer
        yield Exit(exit.number, exit.trunk, exit.logits, feature, layer)


def _apart(feature: Any) -> Any:
    """A feature whose Tensors each have their own place in the graph, what is only carried along too."""
    if isinstance(feature, Tensor):
        return feature
    return with_scales(feature, [tensor.view_as(tensor) for tensor in scales_of(feature)])


class _FeatureKeeper:
    """Calls the parts of a net and keeps how the most recent logits were made.

    Attributes:
        read: The call of the linear layer that made them, if one did.
    """

    def __init__(self, net: ForkedNet) -> None:
        self.read: LinearCall | None = None
        # a backbone's last head may hold functions alone: its last linear layer stands in the stage
        self._bare = None if any(True for _ in net.heads[-1].parameters()) else net.heads[-1]
        self._last = net.stages[-1]

    def __call__(self, part: Part, module: nn.Module, *inputs: Any) -> Any:
        if part == "head":
            return module(*inputs) if module is self._bare else self._watched(module, *inputs)
        if part == "fork":
            return module(*inputs)
        if module is self._last:
            return module(*inputs) if self._bare is None else self._watched(module, *inputs)
        return _apart(module(*inputs))

    def _watched(self, module: nn.Module, *inputs: Any) -> Any:
        layers = opened(module) if len(inputs) == 1 else None
        if layers is None:
            with LayerRecorder([module]) as recorder:
                output = module(*inputs)
            self.read = recorder.last_call()
            return output
        before, linear, after = layers  # without hooks, which break the graphs of torch.compile
        (x,) = inputs
        for layer in before:
            x = layer(x)
        output = logits = linear(x)
        for layer in after:
            logits = layer(logits)
        self.read = LinearCall(linear, x, output)
        return logits
