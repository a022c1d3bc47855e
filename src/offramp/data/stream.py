"""A data split in storage: images decoded by worker processes as they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random

import torch
from torch import Tensor
from torch.utils.data import Dataset

from offramp.data._draws import seeded
from offramp.data._geometry import centre_crop, centre_window, random_resized_crop, random_window
from offramp.data._loading import FORK, loaded, num_workers
from offramp.data._pictures import Picture, pixels
from offramp.data._rows import Rows, decode
from offramp.data._samples import evenly_spaced
from offramp.data.batches import Batches
from offramp.data.split import Split
from offramp.data.target_tensors import TargetTensors
from offramp.data.targets import present
from offramp.errors import UserError

__all__ = ["StreamSplit"]


class StreamSplit(Batches):
    """Images in storage, decoded batch by batch and cut to squares if `size` is given.

    What is done to an image depends on (seed, epoch, row) alone, never on which worker does it.

    Args:
        rows: The stored split.
        selected: The rows that belong to this split, int64 ``[N]``.
        targets: Their targets, in memory.
        size: Side of the square that every image is cut to; None: images of one size, served as they are.
        channels: Number of channels of an image; None: image files have 3.

    Attributes:
        workers: Number of processes that decode; None: one per core, at most 8. 0: this process does.
    """

    workers: int | None = None
    targets: TargetTensors

    def __init__(
        self,
        rows: Rows,
        selected: Tensor,
        targets: TargetTensors,
        *,
        size: int | None,
        channels: int | None = None,
    ) -> None:
        self.targets = targets
        self.size = size
        self._rows, self._selected, self._channels = rows, selected, channels
        with seeded(0):
            example = pixels(decode(rows, int(selected[0]) if len(selected) else 0, channels))
        self.dtype = example.dtype
        height, width = (size, size) if size else example.shape[1:]
        self.input_size = (len(example), height, width)

    def __len__(self) -> int:
        return len(self._selected)

    def _read(
        self,
        plan: Sequence[Tensor],
        *,
        device: torch.device | str,
        key: tuple[int, int],
        resized_crop: bool,
        world: int,
    ) -> Iterator[tuple[Tensor, Mapping[str, Tensor]]]:
        workers = num_workers(world) if self.workers is None else self.workers
        on_gpu = torch.device(device).type == "cuda"
        stream = self._stream(plan, key=key, resized_crop=resized_crop, workers=workers, pin_memory=on_gpu)
        for index, (images, windows) in zip(plan, stream, strict=True):
            yield images.to(device, non_blocking=on_gpu), self._targets_of(index, windows, device)

    def _targets_of(self, index: Tensor, windows: Tensor, device: torch.device | str) -> dict[str, Tensor]:
        """The targets of samples whose images show a window of what is stored, on the device."""
        kinds = self.targets.kinds
        if self.size is None or not any(kind.spatial for kind in kinds.values()):
            return self.targets.batch(index, device)
        moved = {
            key: kinds[key].windowed(target, windows)
            for key, target in self.targets.batch(index, "cpu").items()
        }
        return {key: target.to(device) for key, target in present(moved, kinds).items()}

    def decoded(self) -> Split:
        """The whole split in memory.

        Raises:
            UserError: An image cannot be decoded, or the images are of several sizes and `size` is None.
        """
        return Split(self._images(torch.arange(len(self))), self.targets)

    def sample(self, count: int) -> Tensor:
        """Decode some images, evenly spread over the split: ``[n, C, H, W]``."""
        return self._images(torch.tensor(evenly_spaced(len(self), count)))

    def _images(self, index: Tensor) -> Tensor:
        images = torch.empty((len(index), *self.input_size), dtype=self.dtype)
        workers = num_workers() if FORK and len(index) > 5000 and self.workers is None else 0
        positions = torch.arange(len(index)).split(250)
        plan = [index[part] for part in positions]
        for part, (decoded, _) in zip(positions, self._stream(plan, workers=workers), strict=True):
            images[part] = decoded
        return images

    def _stream(
        self,
        plan: Sequence[Tensor],
        *,
        key: tuple[int, int] = (0, 0),
        resized_crop: bool = False,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Decode the planned batches; random crops follow from the key (seed, epoch) and the row.

        Yields:
            Images ``[B, C, H, W]``, and the windows of the stored ones that they show ``[B, 4]``.
        """
        decoder = _RowDecoder(self._rows, self, key, resized_crop=resized_crop)
        rows = (self._selected[index].tolist() for index in plan)
        yield from loaded(decoder, rows, workers=min(workers, len(plan)), pin_memory=pin_memory)


class _RowDecoder(Dataset[tuple[Tensor, Tensor] | UserError]):
    """A worker's data set: decodes the rows of a batch to images ``[B, C, H, W]`` and their windows."""

    def __init__(self, rows: Rows, split: StreamSplit, key: tuple[int, int], *, resized_crop: bool) -> None:
        self.rows, self.key, self.resized_crop = rows, key, resized_crop
        self.size, self.input_size = split.size, split.input_size
        self.dtype, self.channels = split.dtype, split._channels

    def __getitem__(self, batch: list[int]) -> tuple[Tensor, Tensor] | UserError:
        images = torch.empty((len(batch), *self.input_size), dtype=self.dtype)
        windows = torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(len(batch), 1)
        try:
            for image, window, row in zip(images, windows, batch, strict=True):
                image[:] = self._pixels(row, window)
        except UserError as error:  # raised, it would reach the user wrapped in the worker's traceback
            return error
        return images, windows

    def _pixels(self, row: int, window: Tensor) -> Tensor:
        """The pixels of a row's image; writes which window of the stored one they show."""
        image = pixels(self._square(row, window))
        if image.dtype != self.dtype or len(image) != self.input_size[0]:
            kinds = (f"{len(image)} channels of {image.dtype}", f"{self.input_size[0]} of {self.dtype}")
            raise UserError(
                f"{self.rows.location(row)}: {kinds[0]} where others have {kinds[1]}; make them alike"
            )
        return image

    def _square(self, row: int, window: Tensor) -> Picture:
        expected_size = self.input_size if self.size is None else None
        if self.rows.random:
            with seeded(*self.key, row):
                image = decode(self.rows, row, self.channels, expected_size, square=self.size)
        else:
            image = decode(self.rows, row, self.channels, expected_size, square=self.size)
        if self.size is None:
            return image
        if not self.resized_crop:
            window[:] = torch.tensor(centre_window(image, self.size))
            return centre_crop(image, self.size)
        seed, epoch = self.key
        window[:] = torch.tensor(random_window(image, Random(f"{seed} {epoch} {row}")))
        return random_resized_crop(image, self.size, Random(f"{seed} {epoch} {row}"))
