"""A data split in memory: images on a device, batches gathered and transformed by tensor operations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from offramp.data.batches import Batches

__all__ = ["Split"]


class Split(Batches):
    """Images and labels in memory; they move to a device at the first use there, and stay.

    Args:
        images: ``[N, C, H, W]``, uint8 (levels 0 ... 255) or float32.
        labels: int64 ``[N]``.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels = labels

    @property
    def dtype(self) -> torch.dtype:
        """uint8 or float32."""
        return self.images.dtype

    def sample(self, count: int) -> Tensor:
        """All images of the split, ``[N, C, H, W]``, whatever the count."""
        return self.images

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Shape of one image: (C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def _read(
        self,
        plan: Sequence[Tensor],
        *,
        device: torch.device | str,
        key: tuple[int, int],
        resized_crop: bool,
        world: int,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        self.images, self.labels = self.images.to(device), self.labels.to(device)
        for index in plan:
            index = index.to(device)
            yield self.images[index], self.labels[index]
