"""Chooses the features at which to cut the graph, so that a step needs the least memory.

A cut frees what lies above it early, and the rows above it are done with early. But at a cut each loss that
has come so far waits with a gradient as large as the feature. Deep features are small and deep layers have
many parameters, so cutting there pays; near the input it is the other way round, and several stages are
better taken in one pass. The operations are the same either way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from offramp.methods.combiners.jacobian.exit_graph import Region, exit_graph_of

__all__ = ["choose_cuts", "saved_bytes"]

SAVED_FRACTION = (
    0.7  # of what a forward pass makes, the share that it keeps for the backward pass (MSDNet, VGG, ResNet)
)
SLACK = 1.05  # these are estimates: what is this close counts as equal, and then the more cuts the better


def choose_cuts(
    losses: Sequence[Tensor],
    trunk: Sequence[Any],
    need: Sequence[Mapping[Tensor, None]],
    *,
    graph_stays: bool = False,
    rows_stay: bool = False,
) -> list[int]:
    """Levels at which to cut the graph: as many as there can be while the peak of memory is about the lowest.

    Args:
        losses: K scalars.
        trunk: The features between the stages.
        need: For each loss the parameters whose gradients are wanted.
        graph_stays: Whether nothing is freed before the end.
        rows_stay: Whether the rows are kept to the end.
    """
    live, levels, stages, heads, _ = exit_graph_of(losses, trunk, need)
    end = len(levels)
    size = [*(sum(t.nbytes for t in tensors) for tensors in levels), 0]  # the last one is that of level -1
    waiting = [*(sum(max(heads[j].stops, default=-1) >= k for j in live) for k in range(end)), 0]
    above = Region(
        set().union(*(head.nodes for head in heads.values())),
        [p for head in heads.values() for p in head.leaves],
        set(),
    )
    parts = [*stages, above]  # part k lies above level k-1 and below level k
    rows = [_rows(part, need) for part in parts]
    graph = [0.0 if graph_stays else sum(map(saved_bytes, part.nodes)) for part in parts]

    def height(top: int, bottom: int) -> float:
        """Bytes in use while the parts between levels ``top`` and ``bottom`` have their passes."""
        before = waiting[top] * size[top] + size[bottom] if top < end else 0  # each gives way to the next one
        gradients = max(before, waiting[bottom] * size[bottom])
        held = sum(rows[bottom + 1 :]) if rows_stay else sum(rows[bottom + 1 : top + 1])
        return sum(graph[: top + 1]) + gradients + held

    heights = {(a, b): height(a, b) for a in range(end + 1) for b in range(-1, a)}
    lowest = {end: 0.0}  # down to each level, the height that no choice can avoid
    for b in reversed(range(-1, end)):
        lowest[b] = min(max(peak, heights[a, b]) for a, peak in lowest.items())
    cuts: dict[int, list[int]] = {end: []}  # down to each level, the most cuts that are hardly higher
    for b in reversed(range(-1, end)):
        ways = [[*taken, b] for a, taken in cuts.items() if heights[a, b] <= SLACK * lowest[-1]]
        if ways:
            cuts[b] = max(ways, key=len)
    return sorted(cuts[-1])[1:]


def _rows(part: Region, need: Sequence[Mapping[Tensor, None]]) -> int:
    """Bytes of the gradient rows of the shared parameters in a region."""
    counts = [(p.nbytes, sum(p in wanted for wanted in need)) for p in part.leaves]
    return sum(size * count for size, count in counts if count > 1)


def saved_bytes(node: Any) -> float:
    """Estimate from its outputs how many bytes an operation keeps for its backward pass."""
    outputs: int = sum(math.prod(made.shape) * made.dtype.itemsize for made in node._input_metadata)
    return SAVED_FRACTION * outputs
