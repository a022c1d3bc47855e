"""Hand a feature out without feature referencing, by zero fill.

Deep Feature Surgery, Eq 6, as in the authors' MSDNet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from offramp.forks.gains import Gains

__all__ = ["HandOutZeroed"]


@dataclass(frozen=True)
class HandOutZeroed:
    """Hands the head zeros in place of the shared channels, and the next stage in place of the own ones.

    This changes values, in training and after it: such a fork stays on the net.

    Attributes:
        referenced: The fork with referencing.
        kept: The partition's gains, 0 and 1; here they multiply the values as well.
        axis: The axis of the channels.
    """

    referenced: Callable[[Tensor], tuple[Tensor, Tensor]]
    kept: Gains
    axis: int

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The Tensor for the head, and the Tensor for the next stage."""
        to_head, to_next = self.referenced(x)
        shape = [-1 if d == self.axis else 1 for d in range(x.dim())]
        return (
            to_head * self.kept.head.to(x.device, x.dtype).reshape(shape),
            to_next * self.kept.next.to(x.device, x.dtype).reshape(shape),
        )
