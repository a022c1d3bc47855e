"""A subset of a tensor's channels: a slice where it can be one (no copy), an index where it must."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Channels"]


class Channels:
    """The channels where a mask is true.

    Args:
        mask: Bool ``[C]``.
    """

    def __init__(self, mask: Tensor) -> None:
        index = mask.nonzero().flatten().cpu()
        self.total = mask.numel()
        self.count = index.numel()
        start = int(index[0]) if self.count else 0
        contiguous = self.count == 0 or int(index[-1]) - start + 1 == self.count
        self.range = slice(start, start + self.count) if contiguous else None
        self._index = {index.device: index}

    @property
    def is_all(self) -> bool:
        """Whether no channel is missing."""
        return self.count == self.total

    def key(self, device: torch.device) -> slice | Tensor:
        """What indexes the channel axis of a tensor on the device."""
        if self.range is not None:
            return self.range
        if device not in self._index:
            self._index[device] = next(iter(self._index.values())).to(device)
        return self._index[device]

    def of(self, tensor: Tensor, dim: int = 1) -> Tensor:
        """These channels of a tensor: a view if they are contiguous, else a copy."""
        if self.range is not None:
            return tensor.narrow(dim, self.range.start, self.count)
        key = self.key(tensor.device)
        assert isinstance(key, Tensor)
        return tensor.index_select(dim, key)
