"""The backward passes that give each loss's gradient, planned so that the graph is freed on the way.

``autograd.grad`` of a loss down to the feature of a stage runs, and frees, only what lies above it. So the
passes go from the deepest stage to the first: at stage k one for each loss that reaches it, from the
gradients at its output to its parameters and to the gradients at its input. The last of them frees the
stage's part of the graph, which the plain loop over the losses keeps to the end. Both run the same
operations.

What lies where is read from the graph of the step at hand. A loss that reaches two stages by ways of its own
gets a plain pass, and so do all if the features do not cut the graph (a tuple of which one tensor is made
from another, a parameter that two stages use) or if there are none (a compiled net, decoders side by side).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from offramp.methods.combiners.jacobian.graph import Walk, saves, survey

__all__ = ["Pass", "plan_passes"]

_Way = tuple[int, int | None, Walk]  # a loss, the level it starts from or None, what it goes through


@dataclass(frozen=True)
class Pass:
    """One call of ``autograd.grad``.

    Attributes:
        loss: Whose gradient.
        start: The level it starts from, or None for the loss itself.
        parameters: Whose gradients it gives.
        into: The level at which it stops and leaves gradients for a later pass, or None.
        free: Whether nothing behind it needs this part of the graph.
    """

    loss: int
    start: int | None
    parameters: list[Tensor]
    into: int | None
    free: bool


def plan_passes(
    losses: Sequence[Tensor],
    trunk: Sequence[Any] | None,
    need: Sequence[AbstractSet[Tensor] | Mapping[Tensor, None]],
) -> list[Pass]:
    """The passes of a step, in order.

    Args:
        losses: Scalars.
        trunk: The features between the stages, from the first on; level k is behind stage k.
        need: For each loss the parameters whose gradients are wanted, as a set or the keys of a dict.
    """
    live, levels, stages, heads, apart = survey(losses, trunk, need)
    loose = [j for j in live if len(heads[j].stops) > 1 or _meets_again(heads[j], stages)]
    if not levels or len(loose) == len(live) or not apart:
        # From the last loss to the first, since what only deep exits share is complete early then.
        return [Pass(j, None, list(need[j]), None, j == live[0]) for j in reversed(live)]

    early = [j for j in live if j not in loose and _entangled(j, heads, stages, same_end=False)]
    passes = [Pass(j, None, list(need[j]), None, False) for j in loose]
    passes += [one for j in early for one in _through((j, None, heads[j]), need, stages)]
    for k in reversed(range(-1, len(levels))):  # all ways that end at level k
        ways: list[_Way] = [
            (j, None, heads[j])
            for j in reversed(live)
            if j not in (*loose, *early) and max(heads[j].stops, default=-1) == k
        ]
        if k + 1 < len(levels):
            # Ascending: the deepest exit uses the most of the stage, so it is the one to free it.
            arrived = sorted(one.loss for one in passes if one.into == k + 1)
            ways += [(j, k + 1, stages[k + 1]) for j in arrived]
        ending: list[Pass] = []
        for way in reversed(ways):
            alone = way[1] is None and not _entangled(way[0], heads, stages, same_end=True)
            ending += _through(way, need, stages, free=alone or not ending)
        passes += reversed(ending)
    return passes


def _through(
    way: _Way,
    need: Sequence[AbstractSet[Tensor] | Mapping[Tensor, None]],
    stages: Sequence[Walk],
    *,
    free: bool = False,
) -> list[Pass]:
    """The pass of a loss through a region, and on to the level behind it if it wants anything from there."""
    loss, start, region = way
    behind = max(region.stops, default=-1)
    more = any(p in need[loss] for stage in stages[: behind + 1] for p in stage.leaves)
    parameters = [p for p in region.leaves if p in need[loss]]
    return [Pass(loss, start, parameters, behind if more else None, free)] if parameters or more else []


def _meets_again(head: Walk, stages: Sequence[Walk]) -> bool:
    """Whether a parameter is in use both before and behind the level where a loss's pass stops."""
    behind = stages[: max(head.stops, default=-1) + 1]
    return any(not set(stage.leaves).isdisjoint(head.leaves) for stage in behind)


def _entangled(j: int, heads: dict[int, Walk], stages: Sequence[Walk], *, same_end: bool) -> bool:
    """Whether a loss shares operations with another loss or a stage, which would find them freed.

    Args:
        j: The loss.
        heads: What each loss goes through first.
        stages: What lies between the levels.
        same_end: Look at what ends at the same level as this loss does, or at all else.
    """
    end = heads[j].stops
    others = [*stages, *(heads[i] for i in heads if i != j)]
    return any(
        saves(node)
        for other in others
        if (other.stops == end) == same_end
        for node in heads[j].nodes & other.nodes
    )
