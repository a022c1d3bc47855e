"""A network with several exits: stages in a row, a fork and a head after each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, overload

import torch
from torch import Tensor, nn

from offramp.errors import UserError
from offramp.forks.fork import Fork
from offramp.nets.ownership import owners
from offramp.nets.passage import Passage, passage

__all__ = ["Feature", "MultiExitNet"]

Feature = Tensor | tuple[Tensor, ...]


class MultiExitNet(nn.Module):
    """K stages in a row; after stage k a fork hands its feature to head k and to stage k+1.

    A feature is a Tensor ``[N, C, ...]`` or a tuple of Tensors (MSDNet's scales, fine to coarse).
    The last stage has no fork: its feature goes to the last head only.

    Args:
        stages: K modules, each mapping a feature to the next one; the first reads the input.
        heads: K modules, each mapping a feature to logits ``[N, classes]``.
        input_size: Shape of one input without the batch axis, for dry runs and counting.
        convention: How :func:`offramp.cost` counts this net unless told otherwise, a key of
            :data:`~offramp.nets.conventions.CONVENTIONS`.

    Raises:
        UserError: Fewer than two exits, or stages and heads differ in number.
    """

    # What tables call it, and how it was built: {"net": name, **arguments}. By default its class.
    spec: dict[str, object] | None = None

    def __init__(
        self,
        stages: Iterable[nn.Module],
        heads: Iterable[nn.Module],
        *,
        input_size: tuple[int, ...] = (3, 32, 32),
        convention: str = "macs",
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.heads = nn.ModuleList(heads)
        if len(self.stages) != len(self.heads):
            raise UserError(
                f"a multi-exit net needs one head per stage, "
                f"got {len(self.stages)} stages and {len(self.heads)} heads"
            )
        if len(self.heads) < 2:
            raise UserError(
                f"a multi-exit net needs at least two exits, got {len(self.heads)}; "
                "with one exit there is nothing to share and nothing to resolve"
            )
        self.forks = nn.ModuleList(Fork() for _ in self.stages[:-1])
        self.input_size = input_size
        self.convention = convention

    @property
    def num_exits(self) -> int:
        """How many exits the net has (K)."""
        return len(self.heads)

    @overload
    def forward(self, x: Feature, *, exits: int | None = None) -> list[Tensor]: ...

    @overload
    def forward(self, x: Feature, *, keep: Literal[True]) -> Passage: ...

    def forward(self, x: Feature, *, keep: bool = False, exits: int | None = None) -> list[Tensor] | Passage:
        """Logits of every exit, shallow to deep: K tensors ``[N, classes]``.

        Args:
            x: The input.
            exits: Stop after so many exits, fewer than K.
            keep: Return them together with what lies on the way, as a :class:`~offramp.nets.passage.Passage`.
        """
        if keep:
            return passage(self, x)
        logits = []
        for stage, fork, head in zip(self.stages, self.forks, self.heads, strict=False):
            to_head, x = fork(stage(x))
            logits.append(head(to_head))
            if len(logits) == exits:
                return logits
        logits.append(self.heads[-1](self.stages[-1](x)))
        return logits

    def owners(self) -> dict[str, frozenset[int]]:
        """The exits (0-based) whose losses reach each parameter; see :func:`~offramp.nets.owners`."""
        like = next(self.parameters())
        sample = torch.randn(1, *self.input_size, generator=torch.Generator().manual_seed(0))
        return owners(self, sample.to(like))
