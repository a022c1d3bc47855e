"""A feature for each reader as a Tensor that knows its cut: what would be dropped is never computed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from offramp.errors import UserError
from offramp.forks.channels import Channels
from offramp.forks.cut import Cut
from offramp.forks.feature import Feature, cut_of, with_cut
from offramp.forks.gains import Gains
from offramp.forks.joined import HandOutJoined
from offramp.forks.lanes import branch, join
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
        self.routings: dict[tuple[tuple[int, int], ...], Routing] = {}

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What head and next stage get of a Tensor."""
        if _is_transformed_or_traced():
            return self.plain(x)
        if not (torch.is_grad_enabled() and x.requires_grad):
            return x, x
        if torch.compiler.is_exporting() or type(x) not in (Tensor, Feature):
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
        cut = Cut(live, self.axis, self.split, self.source, lane)
        return with_cut(join(value, lane, live, self.axis), cut)

    def _routing(self, x: Tensor) -> Routing:
        """The gains, but 0 where an earlier fork has stopped the gradient already."""
        cut = cut_of(x)
        known: tuple[tuple[int, int], ...] = ()
        if cut is not None and cut.axis == self.axis:
            cut.read()
            known = cut.live.runs
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


def _is_transformed_or_traced() -> bool:
    """Whether lanes are of no use: to a transform of torch.func, to forward mode, or to ``torch.jit.trace``.

    A trace is compared with one that is made without gradients, so that both have to hold the same.
    """
    if torch.compiler.is_compiling():
        return False
    return (
        torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
        or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    )
