"""A batch: inputs, and one target per task."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from offramp.checks import of_kind

__all__ = ["Batch", "Origin"]


class Origin(NamedTuple):
    """Which split of which data set samples come from.

    Attributes:
        data: Name of the data set.
        split: ``"train"``, ``"val"`` or ``"test"``.
        is_test: Whether nets are tested on it, as on the validation samples too of a set without others.
    """

    data: str
    split: str
    is_test: bool = False


@dataclass(frozen=True)
class Batch:
    """A batch of N samples: what a network reads, and the targets of its tasks.

    Attributes:
        inputs: ``[N, ...]``, or several such Tensors by name, as text has them.
        targets: Key of a task's target -> ``[N, ...]``. A target that no sample of the batch has is not here.
        origin: Where the samples come from; None: not from a set that offramp has opened.
        keys: Keys of the targets that its data set has, of samples in this batch or others; None: nobody
            says.
    """

    inputs: Tensor | Mapping[str, Tensor]
    targets: Mapping[str, Tensor]
    origin: Origin | None = None
    keys: frozenset[str] | None = None

    def __post_init__(self) -> None:
        of_kind("targets", self.targets, Mapping, "a mapping from the key of each target to its Tensor")

    def __len__(self) -> int:
        return len(self.inputs if isinstance(self.inputs, Tensor) else next(iter(self.inputs.values())))

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Apply a function to every Tensor of the batch."""
        inputs: Any = self.inputs
        inputs = change(inputs) if isinstance(inputs, Tensor) else {n: change(x) for n, x in inputs.items()}
        targets = {name: change(target) for name, target in self.targets.items()}
        return replace(self, inputs=inputs, targets=targets)

    def first(self, n: int) -> Batch:
        """The batch of the first n samples."""
        return self.map(lambda tensor: tensor[:n])

    def portion(self, fraction: float) -> Batch:
        """The first share (0 to 1) of the samples, at least two, since batch norm needs two."""
        return self.first(max(2, round(fraction * len(self))))

    def split(self, count: int) -> list[Batch]:
        """Split the batch into parts of nearly equal size, in order, the larger ones first."""
        if count == 1:
            return [self]
        parts = torch.arange(len(self)).tensor_split(count)
        return [self.map(operator.itemgetter(slice(int(part[0]), int(part[-1]) + 1))) for part in parts]

    def share(self, rank: int, world: int) -> Batch:
        """The samples of one process of several: every `world`-th, beginning with number `rank`."""
        return self if world == 1 else self.map(lambda tensor: tensor[rank::world])

    def to(self, device: torch.device | str) -> Batch:
        """The batch on a device."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def channels_last(self) -> Batch:
        """The batch with image inputs ``[N, C, H, W]`` in the channels-last memory format."""
        if not isinstance(self.inputs, Tensor) or self.inputs.dim() != 4:
            return self
        return replace(self, inputs=self.inputs.contiguous(memory_format=torch.channels_last))
