"""The backward passes that give each loss's gradient, planned so that the graph is freed on the way.

The graph of a step with three exits; the forward pass goes to the right, the backward passes to the left::

    stage 0 --- level 0 --- stage 1 --- level 1 --- stage 2 --- head 2 --- loss 2
                   |                       |
                   +--- head 0 --- loss 0  +--- head 1 --- loss 1

*Level k* is the feature behind stage k, one or several tensors. ``heads[j]`` is the region between loss j and
the next level (of the last loss: head and last stage), ``stages[k]`` the one between levels k and k - 1.

``autograd.grad`` of a loss down to a level runs, and frees, only what lies in between. So the passes go from
the deepest region to the first: one for each loss through its head, and at each stage one for each loss that
has come there, from its gradients at level k to those of the parameters and at level k - 1. The last of them
frees the region, which a plain loop over the losses keeps to the end. The operations are the same.

A loss is one of three cases, read from the graph of the current step (:mod:`.exit_graph`):

* *cut at levels*, as above: the rule;
* *early*: its head has operations in common with a region that ends at another level, as a fork that computes
  something. Its pass through the head runs first and frees nothing; from there on it is as the rule;
* *whole*: it reads several levels, as a feature distance does, or a parameter on both sides of one. It gets
  one pass from the loss to all parameters, first of all, which frees nothing.

All losses get whole passes, and the last one frees the graph, where there are no levels (a compiled net,
decoders side by side) or where they do not separate the graph (a tuple of features of which one is made from
another, a parameter that two stages use).

This relies on torch for three things: ``autograd.grad`` runs no operation that is not between its outputs
and inputs; without ``retain_graph`` it frees what those it ran have saved, and nothing else; and an operation
that saves nothing can run again after that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from offramp.methods.combiners.jacobian.exit_graph import ExitGraph, Region, exit_graph_of, saves

__all__ = ["BackwardPass", "plan_passes"]

Parameters = AbstractSet[Tensor] | Mapping[Tensor, None]


@dataclass(frozen=True)
class BackwardPass:
    """One call of ``autograd.grad``, for one loss through one region.

    Attributes:
        loss: Whose gradient.
        from_level: The level whose gradients it starts from, or None: it starts from the loss.
        parameters: Whose gradients it gives.
        to_level: The level at which it leaves gradients for a later pass, or None: nothing is wanted below.
        frees: Whether no later pass needs the region.
    """

    loss: int
    from_level: int | None
    parameters: list[Tensor]
    to_level: int | None
    frees: bool


def plan_passes(
    losses: Sequence[Tensor], trunk: Sequence[Any] | None, need: Sequence[Parameters]
) -> list[BackwardPass]:
    """The backward passes of a step, in order.

    Args:
        losses: K scalars.
        trunk: The features between the stages, from the first on; level k is behind stage k.
        need: For each loss the parameters whose gradients are wanted, as a set or the keys of a dict.
    """
    graph = exit_graph_of(losses, trunk, need)
    live, heads = graph.live, graph.heads
    whole = [j for j in live if len(heads[j].stops) > 1 or _returns(heads[j], graph)]
    if not graph.levels or len(whole) == len(live) or not graph.separable:
        # From the last loss to the first, since what only deep exits share is complete early then.
        return [BackwardPass(j, None, list(need[j]), None, j == live[0]) for j in reversed(live)]

    early = [j for j in live if j not in whole and _shares_operations(j, graph, same_end=False)]
    passes = [BackwardPass(j, None, list(need[j]), None, False) for j in whole]
    passes += [made for j in early for made in _pass_through(heads[j], j, None, need, graph)]
    cut = [j for j in live if j not in whole and j not in early]
    for level in reversed(range(-1, len(graph.levels))):
        passes += _passes_down_to(level, cut, passes, need, graph)
    return passes


def _passes_down_to(
    level: int,
    cut: Sequence[int],
    before: Sequence[BackwardPass],
    need: Sequence[Parameters],
    graph: ExitGraph,
) -> list[BackwardPass]:
    """All passes that end at a level: through the heads there, then through the stage above it.

    Args:
        level: The level; -1 is the end of the graph.
        cut: The losses whose graphs are cut at levels.
        before: The passes that come first.
        need: For each loss the parameters whose gradients are wanted.
        graph: The step's.
    """
    starts: list[tuple[int, int | None, Region]] = [
        (j, None, graph.heads[j]) for j in reversed(cut) if max(graph.heads[j].stops, default=-1) == level
    ]
    above = level + 1
    if above < len(graph.levels):
        # Ascending: the deepest exit uses the most of the stage, so it is the one to free it.
        arrived = sorted(done.loss for done in before if done.to_level == above)
        starts += [(j, above, graph.stages[above]) for j in arrived]
    backwards: list[BackwardPass] = []
    for loss, start, region in reversed(starts):
        alone = start is None and not _shares_operations(loss, graph, same_end=True)
        backwards += _pass_through(region, loss, start, need, graph, frees=alone or not backwards)
    return backwards[::-1]


def _pass_through(
    region: Region,
    loss: int,
    from_level: int | None,
    need: Sequence[Parameters],
    graph: ExitGraph,
    *,
    frees: bool = False,
) -> list[BackwardPass]:
    """The pass of a loss through a region; none if nothing is wanted in it or below."""
    end = max(region.stops, default=-1)
    goes_on = any(p in need[loss] for stage in graph.stages[: end + 1] for p in stage.leaves)
    parameters = [p for p in region.leaves if p in need[loss]]
    if not parameters and not goes_on:
        return []
    return [BackwardPass(loss, from_level, parameters, end if goes_on else None, frees)]


def _returns(head: Region, graph: ExitGraph) -> bool:
    """Whether a parameter is in use both above and below the level where a loss's first pass stops."""
    below = graph.stages[: max(head.stops, default=-1) + 1]
    return any(not set(stage.leaves).isdisjoint(head.leaves) for stage in below)


def _shares_operations(j: int, graph: ExitGraph, *, same_end: bool) -> bool:
    """Whether loss j's head has operations in common with other regions, which would find them freed.

    Args:
        j: The loss.
        graph: The step's.
        same_end: Whether to look at the regions that end at the level where the head does, or at the others.
    """
    head = graph.heads[j]
    others = [*graph.stages, *(other for i, other in graph.heads.items() if i != j)]
    return any(
        saves(node)
        for other in others
        if (other.stops == head.stops) == same_end
        for node in head.nodes & other.nodes
    )
