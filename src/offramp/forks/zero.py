"""The fork without feature referencing, by zero fill (Deep Feature Surgery, Eq 6; the authors' MSDNet)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from offramp.forks.gains import Gains

__all__ = ["HandOutZeroed"]


@dataclass(frozen=True)
class HandOutZeroed:
    """The head reads zeros in place of the shared channels, the next stage in place of the own ones.

    This changes values, in training and after it: such a fork stays on the net.

    Attributes:
        referenced: The fork with referencing, which hands out ordinary Tensors.
        kept: The partition's gains, 0 and 1; here they multiply the values as well.
    """

    referenced: Callable[[Tensor], tuple[Any, Any]]
    kept: Gains

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What head and next stage get of ``x`` ``[N, C, ...]``."""
        to_head, to_next = self.referenced(x)
        return to_head * _over(x, self.kept.head), to_next * _over(x, self.kept.next)


def _over(x: Tensor, gain: Tensor) -> Tensor:
    return gain.to(x.device, x.dtype).reshape(-1, *[1] * (x.dim() - 2))
