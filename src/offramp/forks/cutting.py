"""A feature for each reader as a Tensor that knows its cut: what would be dropped is never computed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from offramp.errors import UserError
from offramp.forks.channels import Channels
from offramp.forks.feature import Cut, Feature, branch, cut_of, join, with_cut
from offramp.forks.gains import Gains
from offramp.forks.joined import HandOutJoined
from offramp.forks.routing import Routing

__all__ = ["HandOutCut"]


class HandOutCut:
    """To each reader a :class:`~offramp.forks.feature.Feature`; a plain Tensor where nothing is dropped.

    Args:
        gains: Of head and next stage, ``[C]``.
        axis: Of the channels.
        split: Whether readers run two layers and an add.
        source: Which feature it is, for the errors.
    """

    def __init__(self, gains: Gains, axis: int, *, split: bool, source: str) -> None:
        self.axis, self.split, self.source = axis, split, source
        self.gains = (tuple(gains.head.tolist()), tuple(gains.next.tolist()))
        self.plain = HandOutJoined(gains, axis)
        self.routings: dict[tuple, Routing] = {}

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What head and next stage get of a Tensor."""
        if _is_transformed():
            return self.plain(x)
        if not (torch.is_grad_enabled() and x.requires_grad):
            return x, x
        if _is_recorded() or type(x) not in (Tensor, Feature):
            return self.plain(x)
        if x.shape[self.axis] != len(self.gains[0]):
            raise UserError(
                f"{self.source} has {x.shape[self.axis]} channels and had {len(self.gains[0])} when its fork "
                "was made; take the rules off and put them on again (offramp.forks.remove, install)"
            )
        routing = self._routing(x)
        value = x.detach()
        head, following = (
            self._feature(value, lane, live)
            for lane, live in zip(branch(x, routing), routing.live, strict=True)
        )
        return head, following

    def _feature(self, value: Tensor, lane: Tensor, live: Channels) -> Tensor:
        cut = Cut(live, self.axis, self.split, self.source, lane, handed_out=True)
        return with_cut(join(value, lane, live, self.axis), cut)

    def _routing(self, x: Tensor) -> Routing:
        """The gains, but 0 where an earlier fork has stopped the gradient already."""
        cut = cut_of(x)
        known = () if cut is None or cut.axis != self.axis else cut.live.runs
        if known not in self.routings:
            head, following = self.gains
            if known:
                alive = [any(start <= c < stop for start, stop in known) for c in range(len(head))]
                head, following = (
                    tuple(g * a for g, a in zip(side, alive, strict=True)) for side in self.gains
                )
            self.routings[known] = Routing.plan([head, following], self.axis)
        return self.routings[known]

    def __repr__(self) -> str:
        return f"{'split' if self.split else 'fused'}, axis {self.axis}"


def _is_transformed() -> bool:
    """Whether a transform of torch.func or forward-mode differentiation is at work, which know no lanes."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0


def _is_recorded() -> bool:
    """Whether what runs is written down as a program, where only plain operations are of use."""
    return torch.compiler.is_exporting() or (not torch.compiler.is_compiling() and torch.jit.is_tracing())
