"""The cut of a feature: in which channels its gradient is dropped, and who has read it."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from offramp.errors import UserError
from offramp.forks._channels import Channels

__all__ = ["Cut"]


@dataclass(eq=False)
class Cut:
    """Which channels of a feature have a gradient, and how it gets back.

    Attributes:
        live: The channels whose gradient is not dropped.
        axis: The axis of the channels.
        split: Whether readers run two layers and an add, as the authors' VGG does, instead of one.
        source: Which feature it was, for the errors.
        lane: Brings the gradient of the live channels home, ``[N, ..., live, ...]``; made when it is first
            read, if nothing has made it before.
        ancestors: What it was made from; none if it is a fork's.
        version: How often the Tensor had been written to when this was known; None for a view of a fork's
            feature, of whose channels nothing is known.
        was_read: Whether a layer has left out some of the feature's gradient.
        is_watched: Whether somebody wants to see all of it, so that no layer may.
    """

    live: Channels
    axis: int
    split: bool
    source: str
    lane: Tensor | None = None
    ancestors: tuple[Cut, ...] = ()
    version: int | None = field(default=None, init=False)
    was_read: bool = field(default=False, init=False)
    is_watched: bool = field(default=False, init=False)

    def read(self) -> None:
        """Note that a layer computes the feature's gradient in part only, and so that of its ancestors."""
        for cut in (self, *self.ancestors):
            cut.was_read = True

    def watch(self) -> None:
        """Have the feature's whole gradient computed from now on.

        Raises:
            UserError: A layer has read the feature already.
        """
        if self.was_read and not self.is_watched:
            raise UserError(
                f"the gradient of {self.source} was asked for after a layer had read it, and part of it is "
                "never computed; ask (register_hook, retain_grad) before the layer runs, or take impl=cat"
            )
        self.is_watched = True

    def derived(
        self, live: Channels, *others: Cut, axis: int | None = None, lane: Tensor | None = None
    ) -> Cut:
        """The cut of the result of an operation on the feature, and perhaps on others."""
        ancestors = (self, *self.ancestors)
        for other in others:
            ancestors = (*dict.fromkeys((*ancestors, other, *other.ancestors)),)
        return Cut(live, self.axis if axis is None else axis, self.split, self.source, lane, ancestors)
