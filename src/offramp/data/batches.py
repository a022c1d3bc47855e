"""Base of the data splits: labelled samples, served in the batches of an epoch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor

from offramp.data._order import Draw, batch_order, generator, num_batches
from offramp.data.batch import Batch, Origin
from offramp.data.targets import LABEL
from offramp.errors import UserError, shown

__all__ = ["BatchTransform", "Batches"]

BatchTransform = Callable[[Batch, Generator], Batch]


class Batches(ABC):
    """Labelled samples that are served in batches; a subclass says how they are read.

    Attributes:
        targets: The targets that are in memory, by key: ``[N, ...]``.
        origin: Which split of which set this is, as its batches tell; None for one of its own.
    """

    targets: Mapping[str, Tensor]
    origin: Origin | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    def labels(self) -> Tensor:
        """Class indices, int64 ``[N]``, of a set whose samples have a class as ``label``.

        Raises:
            UserError: They have other targets.
        """
        if LABEL not in self.targets:
            raise UserError(
                f"the samples have no {shown(LABEL)}; their targets are {', '.join(self.targets)}"
            )
        return self.targets[LABEL]

    def num_batches(self, batch_size: int, *, drop_last: bool = False, world: int = 1) -> int:
        """Number of batches of an epoch on each of `world` ranks."""
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
        together: int = 1,
    ) -> Iterator[Batch]:
        """Yield the batches of one epoch, a pure function of the arguments.

        Args:
            batch_size: Images per batch and rank.
            transform: A batch of images ``[B, C, H, W]`` (uint8 or float32) and a generator -> a batch of
                float32 images of the same shape. If its `resized_crop` is true, a set that cuts images as
                they are read gives random resized crops, else centre crops.
            device: Where the batches are wanted.
            seed: Seeds order and augmentation, together with `epoch`.
            epoch: Which epoch this is, from 0.
            start: The first batch to give; it and all later ones are those of the whole epoch.
            shuffle: A new order each epoch.
            drop_last: Leave out a last batch that is not full.
            rank: This process's number among the `world` that divide the epoch.
            world: How many processes divide the epoch.
            together: How many consecutive samples stay in one process; `batch_size` is a multiple of it.

        Yields:
            Batches on `device`, each with the targets that some sample of it has.
        """
        numbered = list(
            batch_order(
                len(self),
                batch_size,
                seed=seed,
                epoch=epoch,
                start=start,
                shuffle=shuffle,
                drop_last=drop_last,
                rank=rank,
                world=world,
                together=together,
            )
        )
        arrays = self._read(
            [index for _, index in numbered],
            device=device,
            key=(seed, epoch),
            resized_crop=getattr(transform, "resized_crop", False),
            world=world,
        )
        for (number, _), (inputs, targets) in zip(numbered, arrays, strict=True):
            batch = Batch(inputs, targets)
            batch = transform(batch, generator(Draw.AUGMENT, seed, epoch, number, rank))
            yield replace(batch, origin=self.origin)

    @abstractmethod
    def _read(
        self,
        plan: Sequence[Tensor],
        *,
        device: torch.device | str,
        key: tuple[int, int],
        resized_crop: bool,
        world: int,
    ) -> Iterator[tuple[Tensor | Mapping[str, Tensor], Mapping[str, Tensor]]]:
        """Yield images or named inputs, and the targets that are there, of the planned batches of indices.

        All are on the device; which targets a batch lacks is found without a wait for it.

        What is drawn as an image is read follows from the key (seed, epoch) and its row. With `resized_crop`,
        a set that cuts its images as they are read gives random resized crops.
        """
