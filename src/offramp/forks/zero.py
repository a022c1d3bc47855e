"""The fork without feature referencing, by zero fill (Deep Feature Surgery, Eq 6; the authors' MSDNet)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["HandOutZeroed"]


@dataclass(frozen=True)
class HandOutZeroed:
    """The head reads zeros in place of the shared channels, the next stage in place of the own ones.

    This changes values, in training and after it: such a fork stays on the net.

    Attributes:
        shared: Bool ``[C]``.
    """

    shared: Tensor

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What head and next stage get of ``x`` ``[N, C, ...]``."""
        shared = self.shared.to(x.device, x.dtype).reshape(-1, *[1] * (x.dim() - 2))
        return x * (1 - shared), x * shared
