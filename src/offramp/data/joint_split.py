"""A split of several data sets, whose samples have targets for different tasks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from offramp.data.batch import Batch
from offramp.data.batches import Batches
from offramp.data.joint_batch import JointBatch
from offramp.data.streams import Streams, batches_given

__all__ = ["JointSplit", "JointTransform"]


@dataclass(frozen=True)
class JointTransform:
    """What is done to the samples of each data set.

    Attributes:
        parts: Name of a set -> its :class:`~offramp.data.Transform`.
    """

    parts: Mapping[str, Callable[[Batch, Generator], Batch]]

    @property
    def mean(self) -> dict[str, Any]:
        """Channel means that are subtracted, by set."""
        return {name: part.mean for name, part in self.parts.items()}  # type: ignore[attr-defined]

    @property
    def std(self) -> dict[str, Any]:
        """Channel deviations that are divided by, by set."""
        return {name: part.std for name, part in self.parts.items()}  # type: ignore[attr-defined]


class JointSplit(Batches):
    """The samples of several data sets, in training batches that :class:`~offramp.data.Streams` describes.

    Args:
        parts: Name of a set -> its samples.
        keys: Name of a set -> key of its own for a target -> key of the target here. Others are left out.
        streams: How training batches are drawn.
    """

    def __init__(
        self, parts: Mapping[str, Batches], keys: Mapping[str, Mapping[str, str]], streams: Streams
    ) -> None:
        self.parts, self.keys, self.streams = parts, keys, streams

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))

    @property
    def targets(self) -> Mapping[str, Tensor]:  # type: ignore[override]
        """The targets that are in memory, by key: of as many samples as their set has."""
        return {
            here: self.parts[name].targets[own]
            for name, keys in self.keys.items()
            for own, here in keys.items()
            if own in self.parts[name].targets
        }

    def sizes(self, batch_size: int) -> dict[str, int]:
        """How many samples of each set a training step has where it has any; none of them may be 0."""
        return self.streams.sizes([*self.parts], batch_size)

    def num_batches(self, batch_size: int, *, drop_last: bool = False, world: int = 1) -> int:
        """Number of batches of an epoch on each of `world` ranks; training batches are those of full ones."""
        if not drop_last:
            return sum(part.num_batches(batch_size, world=world) for part in self.parts.values())
        return len(self.streams.plan(self.streams.counts(self._available(batch_size, world))))

    def batches(
        self,
        batch_size: int,
        *,
        transform: Any,
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

        Shuffled, they are those of a training, which begins each set's batches where the epoch before ended:
        :class:`~offramp.data.JointBatch` objects if each step has samples of all sets. If not, each set's
        batches come once, set after set.

        Args:
            batch_size: Samples per batch and rank, of all sets together.
            transform: A :class:`JointTransform`.
            device: Where the batches are wanted.
            seed: As in :meth:`Batches.batches`; so are all others.
            epoch: Which epoch this is, from 0.
            start: The first batch to give.
            shuffle: Training batches.
            drop_last: Leave out last batches that are not full; training batches are full ones always.
            rank: This process's number among the `world` that divide the epoch.
            world: How many processes divide the epoch.
            together: As in :meth:`Batches.batches`; not of training batches.
        """
        common: dict[str, Any] = {"device": device, "rank": rank, "world": world}
        if shuffle:
            return self._training_batches(batch_size, transform, seed, epoch, start, common)
        common |= {"drop_last": drop_last, "together": together}
        one_by_one = (
            self._part(name, part.batches(batch_size, transform=transform.parts[name], **common))
            for name, part in self.parts.items()
        )
        return itertools.islice(itertools.chain.from_iterable(one_by_one), start, None)

    def _training_batches(
        self, batch_size: int, transform: JointTransform, seed: int, epoch: int, start: int, common: Any
    ) -> Iterator[Batch]:
        available = self._available(batch_size, common["world"])
        counts = self.streams.counts(available)
        plan = self.streams.plan(counts)
        done = batches_given(plan[:start])
        streams = {
            name: self._stream(
                name,
                epoch * counts[name] + done[name],
                available[name],
                batch_size=self.sizes(batch_size * common["world"])[name] // common["world"],
                transform=transform.parts[name],
                seed=_seed_of(name, seed),
                **common,
            )
            for name in self.parts
        }
        for names in plan[start:]:
            parts = {name: next(streams[name]) for name in names}
            yield JointBatch(parts) if self.streams.order == "together" else parts[names[0]]

    def _stream(self, name: str, number: int, available: int, **how: Any) -> Iterator[Batch]:
        """The batches of a set, shuffled anew each time that all of them have come, from a number on."""
        first, start = divmod(number, available)
        for again in itertools.count(first):
            batches = self.parts[name].batches(
                epoch=again, start=start if again == first else 0, shuffle=True, drop_last=True, **how
            )
            yield from self._part(name, batches)

    def _part(self, name: str, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Batches of a set with the keys that its targets have here."""
        keys = self.keys[name]
        offered = frozenset(keys.values())
        for batch in batches:
            targets = {keys[key]: target for key, target in batch.targets.items() if key in keys}
            yield replace(batch, targets=targets, keys=offered)

    def _available(self, batch_size: int, world: int) -> dict[str, int]:
        """How many full batches of its size each set has, over all ranks."""
        sizes = self.sizes(batch_size * world)
        return {
            name: part.num_batches(sizes[name] // world, drop_last=True, world=world)
            for name, part in self.parts.items()
        }

    def _read(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("the sets read for themselves")


def _seed_of(name: str, seed: int) -> int:
    """Seed of a set's own order, so that sets of equal length come in different orders."""
    return int(np.random.SeedSequence([seed, *name.encode()]).generate_state(1, np.uint64)[0])
