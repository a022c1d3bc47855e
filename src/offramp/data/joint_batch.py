"""A batch of several data sets: samples of each, with targets for other tasks each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from offramp.checks import described
from offramp.data.batch import Batch
from offramp.errors import UserError

__all__ = ["JointBatch"]


class JointBatch(Batch):
    """Samples of several data sets for one step, which a net reads set by set.

    Args:
        parts: Name of a set -> its samples. No two have a target in common.

    Attributes:
        parts: Those that were given; a part that does not say which targets its set has, has those of its
            samples.
        inputs: Name of a set -> its inputs, which may be of other sizes than those of other sets.
        targets: The targets of all parts.

    Raises:
        UserError: Two parts have a target in common.
    """

    parts: Mapping[str, Batch]

    def __init__(self, parts: Mapping[str, Batch]) -> None:
        if not isinstance(parts, Mapping) or not all(isinstance(part, Batch) for part in parts.values()):
            raise UserError(f"parts are {described(parts)}, must map the name of each set to a Batch")
        inputs = {name: part.inputs for name, part in parts.items()}
        targets = {key: target for part in parts.values() for key, target in part.targets.items()}
        if len(targets) < sum(len(part.targets) for part in parts.values()):
            raise UserError(
                "parts of a batch have a target in common; each target is of one part, got "
                + ", ".join(f"{name}: {' '.join(part.targets)}" for name, part in parts.items())
            )
        super().__init__(inputs, targets)  # type: ignore[arg-type]
        known = {name: part.keys or frozenset(part.targets) for name, part in parts.items()}
        parts = {name: replace(part, keys=known[name]) for name, part in parts.items()}
        object.__setattr__(self, "parts", parts)

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))

    def _each(self, change: Callable[[Batch], Batch]) -> JointBatch:
        return JointBatch({name: change(part) for name, part in self.parts.items()})

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Apply a function to every Tensor of every part."""
        return self._each(lambda part: part.map(change))

    def first(self, n: int) -> Batch:
        """The first n samples of each part."""
        return self._each(lambda part: part.first(n))

    def portion(self, fraction: float) -> Batch:
        """The first share of each part, two samples at least."""
        return self._each(lambda part: part.portion(fraction))

    def split(self, count: int) -> list[Batch]:
        """Split each part into smaller ones of nearly equal size; the n-th ones make a batch."""
        split_parts = {name: part.split(count) for name, part in self.parts.items()}
        return [JointBatch({name: some[i] for name, some in split_parts.items()}) for i in range(count)]

    def share(self, rank: int, world: int) -> Batch:
        """The samples of one process of several: every `world`-th of each part."""
        return self._each(lambda part: part.share(rank, world))

    def to(self, device: torch.device | str) -> Batch:
        """The batch on a device."""
        return self._each(lambda part: part.to(device))

    def channels_last(self) -> Batch:
        """The batch with image inputs ``[N, C, H, W]`` in the channels-last memory format."""
        return self._each(lambda part: part.channels_last())
