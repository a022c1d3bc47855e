"""A large set: images decoded by worker processes as they are needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from offramp.data.batches import Batches
from offramp.data.geometry import centre_crop, random_resized_crop
from offramp.data.rows import Rows, decode
from offramp.data.split import Split
from offramp.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["StreamSplit"]

FORK = sys.platform == "linux"  # there, workers start in no time and scripts need no __main__ guard


class StreamSplit(Batches):
    """Images in storage; those of any size are cut to squares, as the transform of `batches` wants them.

    What is done to an image depends on (seed, epoch, row) alone, never on which worker does it.

    Args:
        rows: The stored split.
        chosen: The rows that belong to this split, int64 ``[N]``.
        labels: Their labels, int64 ``[N]``.
        size: Side of the square that every image is cut to; None: images of one size, served as they are.

    Attributes:
        workers: How many processes decode; None: one per CPU, at most 8. 0: this process does.
    """

    workers: int | None = None

    def __init__(self, rows: Rows, chosen: Tensor, labels: Tensor, *, size: int | None) -> None:
        self.labels = labels
        self.size = size
        self._rows = rows
        self._chosen = chosen
        width, height = (size, size) if size else decode(rows, 0).size
        self.input_size = (3, height, width)

    def _read(
        self, plan: Sequence[Tensor], *, device: torch.device | str, crops: tuple[int, int] | None, world: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        workers = min(8, (os.cpu_count() or 1) // world) if self.workers is None else self.workers
        on_gpu = torch.device(device).type == "cuda"
        stream = self._stream(plan, key=crops, workers=workers, pin_memory=on_gpu)
        for index, images in zip(plan, stream, strict=True):
            yield images.to(device, non_blocking=on_gpu), self.labels[index].to(device)

    def decoded(self) -> Split:
        """The whole split in memory.

        Raises:
            UserError: An image cannot be decoded, or the images are of several sizes and `size` is None.
        """
        images = torch.empty((len(self), *self.input_size), dtype=torch.uint8)
        workers = min(8, os.cpu_count() or 1) if FORK and len(self) > 5000 else 0
        chunks = torch.arange(len(self)).split(250)
        for chunk, part in zip(chunks, self._stream(chunks, workers=workers), strict=True):
            images[chunk] = part
        return Split(images, self.labels)

    def _stream(
        self,
        plan: Sequence[Tensor],
        *,
        key: tuple[int, int] | None = None,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> Iterator[Tensor]:
        """The planned batches as uint8; with a key (seed, epoch) as random resized crops."""
        loader = DataLoader(
            _Batches(self._rows, self.input_size, self.size, key),
            batch_size=None,
            sampler=(self._chosen[index].tolist() for index in plan),
            num_workers=min(workers, len(plan)),
            multiprocessing_context="fork" if FORK and workers and plan else None,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # or else the loader draws from the global one
        )
        for images in loader:
            if isinstance(images, UserError):
                raise images
            yield images


class _Batches(Dataset):
    """What a worker does: the rows of a batch -> uint8 images ``[B, 3, H, W]``."""

    def __init__(
        self, rows: Rows, input_size: tuple[int, int, int], size: int | None, key: tuple[int, int] | None
    ) -> None:
        self.rows = rows
        self.input_size = input_size
        self.size = size
        self.key = key

    def __getitem__(self, batch: list[int]) -> Tensor | UserError:
        images = np.empty((len(batch), *self.input_size), np.uint8)
        try:
            for image, row in zip(images, batch, strict=True):
                image[:] = np.asarray(self._square(row)).transpose(2, 0, 1)
        except UserError as error:  # raised, it would reach the user wrapped in the worker's traceback
            return error
        return torch.from_numpy(images)

    def _square(self, row: int) -> Image:
        if self.size is None:
            return decode(self.rows, row, self.input_size[:0:-1])
        image = decode(self.rows, row)
        if self.key is None:
            return centre_crop(image, self.size)
        seed, epoch = self.key
        return random_resized_crop(image, self.size, Random(f"{seed} {epoch} {row}"))
