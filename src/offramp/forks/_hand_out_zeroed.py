"""Hand a feature out without feature referencing, by zero fill.

Deep Feature Surgery, Eq 6, as in the authors' MSDNet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

__all__ = ["HandOutZeroed"]


@dataclass(frozen=True)
class HandOutZeroed:
    """Hands each consumer zeros in place of the channels that it does not train.

    This changes values, in training and after it: such a fork stays on the net.

    Attributes:
        referenced: The fork with referencing.
        kept: The partition's gains, 0 and 1, ``[consumers, C]``; here they multiply the values as well.
        axis: The axis of the channels.
    """

    referenced: Callable[[Tensor], Sequence[Tensor]]
    kept: Tensor
    axis: int

    @property
    def gains(self) -> list[list[float]]:
        """What each consumer's gradient is multiplied by, ``[consumers, C]``: 0 where it does not train."""
        gains: list[list[float]] = self.kept.tolist()
        return gains

    def __call__(self, x: Tensor) -> list[Tensor]:
        """The Tensor for each consumer."""
        return self._zeroed(x, self.referenced(x))

    def values(self, x: Tensor) -> list[Tensor]:
        """The Tensor for each consumer, with no gain but the zeros."""
        return self._zeroed(x, [x] * len(self.kept))

    def _zeroed(self, x: Tensor, handed: Sequence[Tensor]) -> list[Tensor]:
        shape = [-1 if d == self.axis else 1 for d in range(x.dim())]
        return [
            each * kept.to(x.device, x.dtype).reshape(shape)
            for each, kept in zip(handed, self.kept, strict=True)
        ]
