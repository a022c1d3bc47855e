"""A data split in memory: images on a device, batches gathered and transformed by tensor operations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from offramp.data._split_checks import check_lengths
from offramp.data._tensor_checks import check_images
from offramp.data.batches import Batches
from offramp.data.target_tensors import TargetTensors

__all__ = ["Split"]


class Split(Batches):
    """Images and targets in memory; they move to a device at the first use there, and stay.

    Args:
        images: ``[N, C, H, W]``, uint8 (levels 0 ... 255) or float32.
        targets: Key -> ``[N, ...]``; plain ones are class indices ``{"label": int64 [N]}``.

    Raises:
        UserError: They are no such Tensors, not of as many samples, or an image is not finite.
    """

    targets: TargetTensors

    def __init__(self, images: Tensor, targets: Mapping[str, Tensor] | TargetTensors) -> None:
        check_images(images)
        self.images = images
        self.targets = targets if isinstance(targets, TargetTensors) else TargetTensors(targets)
        check_lengths(self, "a split")

    def __len__(self) -> int:
        return len(self.images)

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
    ) -> Iterator[tuple[Tensor, Mapping[str, Tensor]]]:
        self.images = self.images.to(device)
        self.targets.to(device)
        for index in plan:
            keys, index = self.targets.of(index), index.to(device)
            yield self.images[index], {key: self.targets[key][index] for key in keys}
