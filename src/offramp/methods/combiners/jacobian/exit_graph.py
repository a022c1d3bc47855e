"""The exit graph: how stages, heads and losses of a step lie in autograd's graph.

The drawing is in :mod:`~offramp.methods.combiners.jacobian._passes`. Of autograd this reads
``Node.next_functions``, the ``variable`` of a leaf's node, gradient edges, and the ``_raw_saved_*``
attributes of nodes.
"""

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
    "ExitGraph",
    "LossInputs",
    "Region",
    "edge",
    "exit_graph_of",
    "levels_of",
    "loss_inputs",
    "region_behind",
    "saves",
]

Edge = tuple[Node, int]  # a tensor's place in the graph: what made it, and which of its outputs it is


class Region(NamedTuple):
    """Operations of the autograd graph between two places.

    Attributes:
        nodes: Operations.
        leaves: Tensors that want a gradient, most of them parameters.
        stops: The levels at which it ends.
    """

    nodes: set[Node]
    leaves: list[Tensor]
    stops: set[int]


class ExitGraph(NamedTuple):
    """The autograd graph of a step, divided at the features between the stages.

    Attributes:
        live: The losses that want a gradient.
        levels: The tensors of each feature through which a gradient flows; level k is behind stage k.
        stages: What lies behind each level, as far as the level before.
        heads: What lies between each of these losses and the next level.
        separable: Whether the graph can be cut at the levels: the stages have nothing in common, all ways
            between them lead through the features, and no feature has a hook, which would run on both sides
            of a cut.
    """

    live: list[int]
    levels: list[list[Tensor]]
    stages: list[Region]
    heads: dict[int, Region]
    separable: bool


class LossInputs(NamedTuple):
    """The outputs and parameters that a loss is computed from.

    Attributes:
        outputs: Indices of the outputs of the net, of which it may also read a feature.
        leaves: Tensors that want a gradient and that it reads by another way: parameters of the objective,
            or of the net, if it is a penalty.
    """

    outputs: frozenset[int]
    leaves: dict[Tensor, None]


def edge(tensor: Tensor) -> Edge:
    """Place in the graph of a tensor that requires a gradient."""
    place = get_gradient_edge(tensor)
    return place.node, place.output_nr


def region_behind(roots: Iterable[Node], stops: Mapping[Edge, int]) -> Region:
    """Collect some operations and all that they were made from, as far as the stops."""
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
    return Region(nodes, leaves, hit)


def exit_graph_of(
    losses: Sequence[Tensor], trunk: Sequence[Any] | None, need: Sequence[Collection[Tensor]]
) -> ExitGraph:
    """Divide the graph of a step into its stages and heads.

    Args:
        losses: Scalars.
        trunk: The features between the stages, from the first on.
        need: For each loss the parameters whose gradients are wanted.
    """
    live = [j for j, loss in enumerate(losses) if loss.requires_grad and need[j]]
    levels = levels_of(trunk)
    stops = {edge(t): k for k, tensors in enumerate(levels) for t in tensors}
    stages = [region_behind((edge(t)[0] for t in tensors), stops) for tensors in levels]
    heads = {j: region_behind([edge(losses[j])[0]], stops) for j in live}
    inside = [node for stage in stages for node in (*stage.nodes, *stage.leaves)]
    separable = (
        len(stops) == sum(map(len, levels))
        and len(set(inside)) == len(inside)
        and all(stage.stops <= {k - 1} for k, stage in enumerate(stages))
        and not any(t._backward_hooks for tensors in levels for t in tensors)
    )
    return ExitGraph(live, levels, stages, heads, separable)


def levels_of(trunk: Sequence[Any] | None) -> list[list[Tensor]]:
    """Tensors through which a gradient flows, for each feature."""
    return [[gateway(t) for t in scales_of(feature) if t.requires_grad] for feature in trunk or ()]


def loss_inputs(losses: Sequence[Tensor], step: Step) -> list[LossInputs]:
    """Find the outputs of the net, and the other leaves, that each loss is computed from."""
    stops = {
        edge(gateway(tensor)): k
        for whole in (step.trunk, step.features, step.outputs)
        for k, entry in enumerate(whole or ())
        for tensor in scales_of(entry)
        if tensor is not None and tensor.requires_grad
    }
    inputs = []
    for loss in losses:
        _, leaves, hit = (
            region_behind([edge(loss)[0]], stops) if loss.requires_grad else Region(set(), [], set())
        )
        inputs.append(LossInputs(frozenset(hit), dict.fromkeys(leaves)))
    return inputs


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
    """Whether a kind of built-in operation keeps tensors; one that wrote into a view hides what it keeps."""
    return kind.__name__ == "CopySlices" or any(name.startswith("_raw_saved") for name in dir(kind))
