"""A split in storage whose samples have a target for every pixel, read as it is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from offramp.data._dense_rows import MAPS, DenseRows, DenseSample
from offramp.data._loading import FORK, loaded, num_workers
from offramp.data._samples import evenly_spaced
from offramp.data.batches import Batches
from offramp.data.split import Split
from offramp.data.target_tensors import TargetTensors
from offramp.data.targets import present
from offramp.errors import UserError

__all__ = ["DenseStream"]

CHUNK = 16  # samples that are read at a time into memory
FEW = 200  # samples that one process reads about as fast as several start


class DenseStream(Batches):
    """Images and maps in storage, of one size, read batch by batch.

    Args:
        rows: The stored split.
        selected: The rows that belong to this split, int64 ``[N]``.

    Attributes:
        targets: None is in memory.
        workers: Number of processes that read; None: one per core, at most 8. 0: this process does.
    """

    workers: int | None = None

    def __init__(self, rows: DenseRows, selected: Tensor) -> None:
        self.targets: Mapping[str, Tensor] = {}
        self._rows, self._selected = rows, selected
        self._example = rows.sample(int(selected[0]) if len(selected) else 0)
        self.dtype = self._example.image.dtype
        channels, height, width = self._example.image.shape
        self.input_size = (channels, height, width)

    def __len__(self) -> int:
        return len(self._selected)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole split in memory."""
        image, maps = self._example
        return len(self) * sum(tensor.nbytes for tensor in (image, *maps.values()))

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
        for images, maps in self._stream(plan, workers=workers, pin_memory=on_gpu):
            there = present(maps, MAPS)
            yield (
                images.to(device, non_blocking=on_gpu),
                {name: target.to(device, non_blocking=on_gpu) for name, target in there.items()},
            )

    def decoded(self) -> Split:
        """The whole split in memory."""
        images, maps = self._all(torch.arange(len(self)))
        return Split(images, TargetTensors(maps, MAPS))

    def sample(self, count: int) -> Tensor:
        """Read some images, evenly spread over the split: ``[n, C, H, W]``."""
        return self._all(torch.tensor(evenly_spaced(len(self), count), dtype=torch.int64)).image

    def absent(self) -> list[str]:
        """The keys of targets that no sample has in any pixel; it reads until it has met all others."""
        left = list(MAPS)
        for row in self._selected.tolist():
            maps = self._rows.sample(row).maps
            left = [name for name in left if not MAPS[name].present(maps[name][None]).any()]
            if not left:
                break
        return left

    def _all(self, index: Tensor) -> DenseSample:
        """Images and maps of some samples, with a batch axis."""
        whole = _empty(self._example, len(index))
        plan = index.split(CHUNK)
        workers = num_workers() if FORK and len(index) > FEW and self.workers is None else 0
        start = 0
        for images, maps in self._stream(plan, workers=workers):
            part = slice(start, start := start + len(images))
            whole.image[part] = images
            for name, values in maps.items():
                whole.maps[name][part] = values
        return whole

    def _stream(
        self, plan: Sequence[Tensor], *, workers: int, pin_memory: bool = False
    ) -> Iterator[DenseSample]:
        """Read the planned batches."""
        decoder = _DenseDecoder(self._rows, self._example)
        rows = (self._selected[index].tolist() for index in plan)
        return loaded(decoder, rows, workers=min(workers, len(plan)), pin_memory=pin_memory)


class _DenseDecoder(Dataset[DenseSample | UserError]):
    """A worker's data set: reads the rows of a batch, images and maps with a batch axis."""

    def __init__(self, rows: DenseRows, example: DenseSample) -> None:
        self.rows, self.example = rows, example

    def __getitem__(self, batch: list[int]) -> DenseSample | UserError:
        whole = _empty(self.example, len(batch))
        try:
            for place, row in enumerate(batch):
                image, maps = self.rows.sample(row)
                self._check(image, row)
                whole.image[place] = image
                for name, values in maps.items():
                    whole.maps[name][place] = values
        except UserError as error:
            return error
        return whole

    def _check(self, image: Tensor, row: int) -> None:
        expected = self.example.image
        if image.shape != expected.shape:
            (_, height, width), (_, other_height, other_width) = image.shape, expected.shape
            raise UserError(
                f"{self.rows.location(row)}: {width}x{height} pixels where others have "
                f"{other_width}x{other_height}; give all samples one size"
            )
        if image.dtype != expected.dtype:
            kinds = [str(tensor.dtype).removeprefix("torch.") for tensor in (image, expected)]
            raise UserError(
                f"{self.rows.location(row)}: {kinds[0]} where others are {kinds[1]}; make them alike"
            )


def _empty(example: DenseSample, count: int) -> DenseSample:
    """Room for `count` samples like the example."""
    image, maps = example
    return DenseSample(
        image.new_empty((count, *image.shape)),
        {name: values.new_empty((count, *values.shape)) for name, values in maps.items()},
    )
