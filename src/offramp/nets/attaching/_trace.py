"""Record what a backbone's forward does, down to the modules where it is to be cut (torch.fx)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import zip_longest
from operator import attrgetter
from typing import Any

import torch
from torch import fx, nn

from offramp.errors import UserError, an_object
from offramp.nets.attaching._contexts import autocast_everywhere
from offramp.nets.attaching._tracer import IsTraining, Tracer
from offramp.unchanged import unchanged

__all__ = ["Trace", "TraceFailure", "is_layer", "trace_backbone"]


@dataclass(frozen=True)
class Trace:
    """A backbone's forward as a graph: its nodes in the order they run, one placeholder, one output.

    Args:
        graph: The calls. A module that holds no cut is one call, whatever it does inside.
        names: The cut modules.
        cuts: The nodes whose values they return.
        parts: The modules, parameters and buffers that the graph calls by name.
    """

    graph: fx.Graph
    names: tuple[str, ...]
    cuts: tuple[fx.Node, ...]
    parts: Mapping[str, Any]

    @property
    def result(self) -> fx.Node:
        """The node whose value the backbone returns (a tuple or dict of nodes is no node)."""
        return self.graph.output_node().args[0]  # type: ignore[return-value]

    @property
    def last_module(self) -> nn.Module | None:
        """The module whose output the backbone returns as it is, if there is one."""
        called = isinstance(self.result, fx.Node) and self.result.op == "call_module"
        return self.parts[str(self.result.target)] if called else None


class TraceFailure(Exception):
    """A graph of torch.fx cannot do what the forward of a module that holds a cut does; why is of no matter.

    The backbone is then cut in another way, whose refusals are those that a user sees.
    """


def trace_backbone(backbone: nn.Module, names: Sequence[str]) -> Trace:
    """Trace ``backbone``, entering only modules that hold a cut, or that end in its final layer.

    Args:
        backbone: A network with one input.
        names: The modules to cut after.

    Raises:
        TraceFailure: torch.fx cannot trace a module that holds a cut, or it takes different paths in training
            and in eval.
        UserError: A cut module does not run exactly once.
    """
    cuts = [backbone.get_submodule(name) for name in names]
    holders = {backbone}
    for name, module in backbone.named_modules(remove_duplicate=False):
        if module in cuts:
            atoms = name.split(".")
            holders |= {backbone.get_submodule(".".join(atoms[:depth])) for depth in range(1, len(atoms))}
    trace = _trace_both_modes(backbone, names, holders)
    while (end := trace.last_module) is not None and not is_layer(end) and end not in cuts:
        holders.add(end)
        try:
            trace = _trace_both_modes(backbone, names, holders)
        except (TraceFailure, UserError):  # it holds no cut, so it may stay closed
            break
    return trace


def is_layer(module: nn.Module) -> bool:
    """Whether ``module`` is a layer rather than something made of layers."""
    return isinstance(module, nn.Linear) or fx.Tracer().is_leaf_module(module, "")


def _trace_both_modes(backbone: nn.Module, names: Sequence[str], holders: set[nn.Module]) -> Trace:
    in_training, in_eval = (_trace_once(backbone, names, holders, training=mode) for mode in (True, False))
    for ours, theirs in zip_longest(in_training.graph.nodes, in_eval.graph.nodes):
        if ours is None or theirs is None or ours.format_node() != theirs.format_node():
            raise TraceFailure
    return in_training


def _trace_once(
    backbone: nn.Module, names: Sequence[str], holders: set[nn.Module], *, training: bool
) -> Trace:
    modules = [backbone.get_submodule(name) for name in names]
    # regions that enter autocast show in one mode, and those that leave it in the other
    autocast = nullcontext() if training else autocast_everywhere()
    with unchanged(backbone), torch.enable_grad(), autocast:
        tracer = Tracer(modules, holders, training)
        try:
            graph = tracer.trace(backbone)
        except Exception as error:  # whatever a user's forward raises when its input is symbolic
            raise TraceFailure from error
    for flag in tracer.flags:
        if not flag.users:
            graph.erase_node(flag)
    constants = {name: value for value, name in tracer.tensor_attrs.items()}
    parts: dict[str, Any] = {}
    for node in graph.nodes:
        if node in tracer.flags:
            parts[node.target] = IsTraining()
        elif node.op in ("call_module", "get_attr"):
            made_inside = node.target in constants
            parts[node.target] = constants[node.target] if made_inside else attrgetter(node.target)(backbone)
    cuts = tuple(
        _only_value(name, tracer.returned[module]) for name, module in zip(names, modules, strict=True)
    )
    return Trace(graph, tuple(names), cuts, parts)


def _only_value(name: str, returned: list[Any]) -> fx.Node:
    if len(returned) != 1:
        times = f"runs {len(returned)} times" if returned else "never runs"
        raise UserError(
            f"module '{name}' {times} in the forward pass; cut after a module that runs exactly once"
        )
    if not isinstance(returned[0], fx.Proxy):
        raise UserError(
            f"module '{name}' returns {an_object(returned[0])}, not a Tensor; cut after one that does"
        )
    return returned[0].node
