"""Hand a feature out as Tensors that know their cut, so that a dropped gradient is never computed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from offramp.errors import UserError
from offramp.forks._channels import Channels
from offramp.forks._cut import Cut
from offramp.forks._gradient_sum import GradientSum
from offramp.forks._hand_out_joined import HandOutJoined
from offramp.forks._lanes import branch, join
from offramp.forks.feature import Feature, cut_of, with_cut

__all__ = ["HandOutCut"]


class HandOutCut:
    """Hands each consumer a :class:`~offramp.forks.feature.Feature`, or a Tensor where nothing is dropped.

    Args:
        gains: ``[consumers, C]``.
        axis: The axis of the channels.
        split: Whether readers run two layers and an add.
        source: Which feature it is, for the errors.
    """

    def __init__(self, gains: Tensor, axis: int, *, split: bool, source: str) -> None:
        self.axis, self.split, self.source = axis, split, source
        self.gains: list[list[float]] = gains.tolist()
        self.plain = HandOutJoined(gains, axis)
        self.gradient_sums: dict[tuple[tuple[int, int], ...], GradientSum] = {}

    def __call__(self, x: Tensor) -> list[Tensor]:
        """The Tensor for each consumer."""
        if _is_transformed_or_traced():
            return self.plain(x)
        if not (torch.is_grad_enabled() and x.requires_grad):
            return [x] * len(self.gains)
        if torch.compiler.is_exporting() or type(x) not in (Tensor, Feature):
            return self.plain(x)
        if x.shape[self.axis] != len(self.gains[0]):
            raise UserError(
                f"{self.source} has {x.shape[self.axis]} channels and had {len(self.gains[0])} when its fork "
                "was made; take the rules off and put them on again (offramp.forks.remove, install)"
            )
        gradient_sum = self._gradient_sum(x)
        value = x.detach()
        lanes = zip(branch(x, gradient_sum), gradient_sum.live, strict=True)
        return [self._feature(value, lane, live) for lane, live in lanes]

    def values(self, x: Tensor) -> list[Tensor]:
        """The Tensor for each consumer, with no gain."""
        return [x] * len(self.gains)

    def _feature(self, value: Tensor, lane: Tensor, live: Channels) -> Tensor:
        cut = Cut(live, self.axis, self.split, self.source, lane)
        return with_cut(join(value, lane, live, self.axis), cut)

    def _gradient_sum(self, x: Tensor) -> GradientSum:
        """The sum of the readers' gradients, with gain 0 where an earlier fork has dropped the gradient."""
        cut = cut_of(x)
        known: tuple[tuple[int, int], ...] = ()
        if cut is not None and cut.axis == self.axis:
            cut.read()
            known = cut.live.runs
        if known not in self.gradient_sums:
            gains = self.gains
            if known:
                alive = [any(start <= c < stop for start, stop in known) for c in range(len(gains[0]))]
                gains = [[g * a for g, a in zip(row, alive, strict=True)] for row in gains]
            self.gradient_sums[known] = GradientSum.plan(gains, self.axis)
        return self.gradient_sums[known]

    def __repr__(self) -> str:
        return f"{'split' if self.split else 'fused'}, axis {self.axis}"


def _is_transformed_or_traced() -> bool:
    """Whether torch.func, forward-mode AD or ``torch.jit.trace`` is at work, which know no lanes.

    A trace is compared with one that is made without gradients, so that both have to hold the same.
    """
    if torch.compiler.is_compiling():
        return False
    return (
        torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
        or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    )
