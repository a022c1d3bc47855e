"""Read data that come in one order only, once, and keep them in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from offramp.data._columns import Columns
from offramp.data._draws import seeded
from offramp.data._rows import Rows
from offramp.data._samples import SampleRows
from offramp.errors import UserError

__all__ = ["iter_samples", "read_once"]

MAX_BYTES = 2 * 2**30  # bytes


def read_once(samples: Iterable[Any], reason: str, name: str, columns: Columns) -> tuple[Rows, list[str]]:
    """Read all samples of an iterable, once and under a fixed seed.

    Args:
        samples: Gives pairs (image, label), or mappings.
        reason: Why they are read so, in words for the user.
        name: Its name in errors.
        columns: Which keys hold the image and the label.

    Raises:
        UserError: They take more than 2 GiB, or are no such pairs.
    """
    kept, size = [], 0
    with seeded(0):
        for sample in samples:
            kept.append(sample)
            parts = sample.values() if isinstance(sample, Mapping) else sample
            size += sum(_bytes(part) for part in parts) if isinstance(parts, Iterable) else 0
            if size > MAX_BYTES:
                raise UserError(
                    f"{reason}, and holds more than {MAX_BYTES / 2**30:g} GiB; "
                    "give a Dataset with __len__ and __getitem__"
                )
    labels = (
        [sample[1] for sample in kept] if kept and isinstance(kept[0], tuple) and len(kept[0]) == 2 else None
    )
    rows = SampleRows(kept, name, columns, labels)
    return rows, [
        f"{reason}: its {len(kept)} samples are read once and are the same in every epoch; "
        "a stopped run goes on only if they are the same again"
    ]


def iter_samples(loader: DataLoader[Any]) -> Iterator[Any]:
    """The samples of a DataLoader's batches one by one."""
    for batch in loader:
        if loader.batch_sampler is None:
            yield batch
        else:
            yield from _one_by_one(batch)


def _one_by_one(batch: Any) -> Iterator[Any]:
    """The samples of a batch: of columns in a tuple, or in a mapping, which a sample then is as well."""
    if isinstance(batch, Mapping):
        for sample in zip(*batch.values(), strict=True):
            yield dict(zip(batch, sample, strict=True))
    else:
        columns = (_one_by_one(part) if isinstance(part, Mapping) else part for part in batch)
        yield from zip(*columns, strict=True)


def _bytes(part: Any) -> int:
    if hasattr(part, "getbands"):
        size: int = len(part.getbands()) * part.width * part.height
    elif isinstance(part, Tensor):  # also a sparse one
        size = part.numel() * part.element_size()
    else:
        size = getattr(part, "nbytes", 0)
    return size
