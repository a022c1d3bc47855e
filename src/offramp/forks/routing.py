"""Where the gradients of a feature's readers go: per-channel gains, planned once and run at every step."""

from __future__ import annotations

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

    def gather(self, grads: Sequence[Tensor | None], into: Tensor) -> Tensor:
        """Write the feature's gradient: every channel once, no zero fill under a sum, no extra add.

        Args:
            grads: For each reader the gradient ``[N, live, ...]``, or None where nothing came back.
            into: Uninitialised ``[N, C, ...]``; returned filled.
        """
        for channels, terms in self.groups:
            key = (slice(None), channels.key(into.device))
            parts = []
            for term in terms:
                grad = grads[term.reader]
                if grad is not None:
                    part = term.channels.of(grad)
                    parts.append(part if term.gain == 1 else part * term.gain)
            into[key] = sum(parts[1:], start=parts[0]) if parts else 0
        return into
