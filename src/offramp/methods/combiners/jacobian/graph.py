"""Walks through the autograd graph of a step: what a loss reads, and what lies between two places."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node, get_gradient_edge

from offramp.forks.feature import gateway
from offramp.forks.scales import scales_of
from offramp.methods.objectives.step import Step

__all__ = [
    "Edge",
    "Reach",
    "Survey",
    "Walk",
    "edge",
    "levels_of",
    "reach",
    "saves",
    "survey",
    "walk",
]

Edge = tuple[Node, int]  # a tensor's place in the graph: what made it, and which of its outputs it is


class Walk(NamedTuple):
    """What a walk came by.

    Attributes:
        nodes: Operations.
        leaves: Tensors that want a gradient, most of them parameters.
        stops: Labels of the stops.
    """

    nodes: set[Node]
    leaves: list[Tensor]
    stops: set[int]


class Survey(NamedTuple):
    """Where the features between the stages lie in the graph of a step.

    Attributes:
        live: The losses that want a gradient.
        levels: The tensors of each feature through which a gradient flows; level k is behind stage k.
        stages: What lies behind each level, as far as the level before.
        heads: What lies between each of these losses and the next level.
        apart: Whether the graph can be cut at the levels: the stages have nothing in common, all ways between
            them lead through the features, and no feature has a hook, which would run on both sides of a cut.
    """

    live: list[int]
    levels: list[list[Tensor]]
    stages: list[Walk]
    heads: dict[int, Walk]
    apart: bool


class Reach(NamedTuple):
    """What a loss reads.

    Attributes:
        outputs: Indices of the outputs of the net, of which it may also read a feature.
        leaves: Tensors that want a gradient and that it reads by another way: parameters of the objective,
            or of the net, if it is a penalty.
    """

    outputs: frozenset[int]
    leaves: dict[Tensor, None]


def edge(tensor: Tensor) -> Edge:
    """Where a tensor that requires a gradient has its place in the graph."""
    found = get_gradient_edge(tensor)
    return found.node, found.output_nr


def walk(roots: Iterable[Node], stops: Mapping[Edge, int]) -> Walk:
    """All that is behind some operations (and these themselves), as far as the stops."""
    stack = list(roots)
    seen, leaves, hit = set(stack), [], set()
    nodes = set()
    while stack:
        node = stack.pop()
        if hasattr(node, "variable"):
            leaves.append(node.variable)
            continue
        nodes.add(node)
        for behind, index in node.next_functions:
            if behind is None:
                continue
            if (behind, index) in stops:
                hit.add(stops[behind, index])
            elif behind not in seen:
                seen.add(behind)
                stack.append(behind)
    return Walk(nodes, leaves, hit)


def survey(
    losses: Sequence[Tensor], trunk: Sequence[Any] | None, need: Sequence[Collection[Tensor]]
) -> Survey:
    """Look at the graph of a step.

    Args:
        losses: Scalars.
        trunk: The features between the stages, from the first on.
        need: For each loss the parameters whose gradients are wanted.
    """
    live = [j for j, loss in enumerate(losses) if loss.requires_grad and need[j]]
    levels = levels_of(trunk)
    stops = {edge(t): k for k, tensors in enumerate(levels) for t in tensors}
    stages = [walk((edge(t)[0] for t in tensors), stops) for tensors in levels]
    heads = {j: walk([edge(losses[j])[0]], stops) for j in live}
    inside = [node for stage in stages for node in (*stage.nodes, *stage.leaves)]
    apart = (
        len(stops) == sum(map(len, levels))
        and len(set(inside)) == len(inside)
        and all(stage.stops <= {k - 1} for k, stage in enumerate(stages))
        and not any(t._backward_hooks for tensors in levels for t in tensors)
    )
    return Survey(live, levels, stages, heads, apart)


def levels_of(trunk: Sequence[Any] | None) -> list[list[Tensor]]:
    """The tensors of each feature through which a gradient flows."""
    return [[gateway(t) for t in scales_of(feature) if t.requires_grad] for feature in trunk or ()]


def reach(losses: Sequence[Tensor], step: Step) -> list[Reach]:
    """What each loss reads of the net's outputs, features and stages."""
    stops = {
        edge(gateway(tensor)): k
        for whole in (step.trunk, step.features, step.outputs)
        for k, entry in enumerate(whole or ())
        for tensor in scales_of(entry)
        if tensor is not None and tensor.requires_grad
    }
    found = []
    for loss in losses:
        _, leaves, hit = walk([edge(loss)[0]], stops) if loss.requires_grad else Walk(set(), [], set())
        found.append(Reach(frozenset(hit), dict.fromkeys(leaves)))
    return found


def saves(node: Node) -> bool:
    """Whether an operation keeps tensors for its backward pass, so that it cannot run once they are freed."""
    if isinstance(node, BackwardCFunction):
        try:
            return bool(node._raw_saved_tensors)
        except RuntimeError:  # it has run and was freed, while others still need it: for it saves nothing
            return False
    return _kind_saves(type(node))


@functools.cache
def _kind_saves(kind: type[Node]) -> bool:
    """The same of a kind of built-in operation; one that wrote into a view hides what it saves."""
    return kind.__name__ == "CopySlices" or any(name.startswith("_raw_saved") for name in dir(kind))
