"""A small set, decoded: uint8 images on a device, batches gathered and transformed by tensor operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor

from offramp.data.order import Draw, batch_order, generator, num_batches

__all__ = ["BatchTransform", "Split"]

BatchTransform = Callable[[Tensor, Generator], Tensor]


class Split:
    """Images and labels in memory.

    Args:
        images: uint8 ``[N, 3, H, W]``.
        labels: int64 ``[N]``.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Shape of one image: (3, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def num_batches(self, batch_size: int, *, drop_last: bool = False, world: int = 1) -> int:
        """How many batches an epoch has on each of `world` ranks."""
        return num_batches(len(self), batch_size, drop_last=drop_last, world=world)

    def batches(
        self,
        batch_size: int,
        *,
        transform: BatchTransform,
        device: torch.device | str,
        seed: int = 0,
        epoch: int = 0,
        start: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of batches, a pure function of the arguments.

        The set moves to `device` at the first use and stays there.

        Args:
            batch_size: Images per batch and rank.
            transform: uint8 ``[B, 3, H, W]`` and a generator -> float32 of the same shape.
            device: Where the batches are wanted.
            seed: Seeds order and augmentation, together with `epoch`.
            epoch: Which epoch this is, from 0.
            start: The first batch to give; it and all later ones are those of the whole epoch.
            shuffle: A new order each epoch.
            drop_last: Leave out a last batch that is not full.
            rank: This process's number among `world` that share the epoch.
            world: How many processes share the epoch.

        Yields:
            float32 images ``[B, 3, H, W]`` and int64 labels ``[B]``, on `device`.
        """
        self.images, self.labels = self.images.to(device), self.labels.to(device)
        order = batch_order(
            len(self),
            batch_size,
            seed=seed,
            epoch=epoch,
            start=start,
            shuffle=shuffle,
            drop_last=drop_last,
            rank=rank,
            world=world,
        )
        for number, index in order:
            index = index.to(device)
            draws = generator(Draw.AUGMENT, seed, epoch, number, rank)
            yield transform(self.images[index], draws), self.labels[index]
