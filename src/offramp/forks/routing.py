"""Where the gradients of a feature's readers go: per-channel gains, planned once and run at every step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from offramp.forks.channels import Channels

__all__ = ["Routing"]


class _Term(NamedTuple):
    reader: int
    gain: float
    channels: Channels  # which channels of the reader's own gradient


class Routing:
    """The gradient of a feature as a gain-weighted sum over its readers, channel by channel.

    A reader sends back the gradient of its *live* channels only, those whose gain is not 0.

    Args:
        gains: One float ``[C]`` for each reader. Gains 1, 1 are the plain fork.
    """

    def __init__(self, gains: Sequence[Tensor]) -> None:
        table = torch.stack([g.detach().double().cpu() for g in gains], dim=1)  # [C, readers]
        alive = table != 0
        self.live = [Channels(alive[:, r]) for r in range(table.shape[1])]
        lane_position = alive.cumsum(0) - 1
        self.groups: list[tuple[Channels, list[_Term]]] = []
        rows, group_of = table.unique(dim=0, return_inverse=True)
        for group, row in enumerate(rows):
            members = group_of == group
            terms = []
            for reader in row.nonzero().flatten().tolist():
                own = torch.zeros(self.live[reader].count, dtype=torch.bool)
                own[lane_position[members, reader]] = True
                terms.append(_Term(reader, float(row[reader]), Channels(own)))
            self.groups.append((Channels(members), terms))

    def gather(
        self, grads: Sequence[Tensor | None], shape: Sequence[int], memory_format: torch.memory_format
    ) -> Tensor:
        """The feature's gradient: every channel is written once, with no zero fill under a sum.

        Args:
            grads: For each reader the gradient ``[N, live, ...]``, or None where nothing came back; not all
                of them None.
            shape: Of the feature, ``[N, C, ...]``.
            memory_format: Of the feature.
        """
        if len(self.groups) == 1:  # all channels alike, as under gradient equilibrium
            total = _weighted_sum(self.groups[0][1], grads)
            if total is not None:
                return total.contiguous(memory_format=memory_format)
        like = next(grad for grad in grads if grad is not None)
        into = torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=memory_format)
        for channels, terms in self.groups:
            total = _weighted_sum(terms, grads)
            into[:, channels.key(into.device)] = 0 if total is None else total
        return into


def _weighted_sum(terms: Sequence[_Term], grads: Sequence[Tensor | None]) -> Tensor | None:
    """The terms' gradients times their gains, added up; None if there is none.

    A sum is laid out as its first operand. The last reader, a stage that starts with a convolution, mostly
    keeps the feature's layout; a head's pooling does not.
    """
    found = [(term, grads[term.reader]) for term in reversed(terms)]
    parts = [(term.gain, term.channels.of(grad)) for term, grad in found if grad is not None]
    if not parts:
        return None
    if len(parts) == 2 and math.isclose(parts[0][0] + parts[1][0], 1, rel_tol=1e-12):
        return torch.lerp(parts[0][1], parts[1][1], parts[1][0])  # one pass over memory
    gain, total = parts[0]
    if gain != 1:
        total = total * gain
    for gain, part in parts[1:]:
        total = torch.add(total, part, alpha=gain)
    return total
