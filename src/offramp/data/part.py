"""A part of a split: some of its samples, served as the split serves them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from offramp.data._selection import Selection
from offramp.data.batches import Batches
from offramp.data.joint_split import JointSplit
from offramp.data.target_tensors import TargetTensors

__all__ = ["Part", "divided"]


class Part(Batches):
    """Some samples of a split, which stay where the split has them.

    Args:
        whole: The split.
        rows: Numbers of the samples, int64 ``[N]``.
    """

    def __init__(self, whole: Batches, rows: Tensor) -> None:
        self.whole, self.rows, self.origin = whole, rows, whole.origin

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def targets(self) -> Mapping[str, Tensor]:  # type: ignore[override]
        """The targets that are in memory, by key: ``[N, ...]``."""
        return {key: target[self.rows] for key, target in self.whole.targets.items()}

    def _read(self, plan: Sequence[Tensor], **how: Any) -> Iterator[tuple[Any, Mapping[str, Tensor]]]:
        return self.whole._read([self.rows[index] for index in plan], **how)


def divided(split: Batches, share: float, seed: int) -> tuple[Batches, Batches]:
    """Divide a split in two, in proportion to the first class that all samples have; of several sets, each.

    Args:
        split: The split.
        share: What the second one gets of the samples, from 0 to below 1: one sample at least.
        seed: Which samples these are is a pure function of it.

    Returns:
        What is left, and the share.
    """
    if isinstance(split, JointSplit):
        halves = {name: divided(part, share, seed) for name, part in split.parts.items()}
        rest, held = ({name: pair[side] for name, pair in halves.items()} for side in (0, 1))
        return JointSplit(rest, split.keys, split.streams), JointSplit(held, split.keys, split.streams)
    is_held = torch.zeros(len(split), dtype=torch.bool)
    count = max(1, round(share * len(split)))
    is_held[Selection(torch.arange(len(split)), _classes(split)).chosen(count, seed=seed)] = True
    return Part(split, (~is_held).nonzero()[:, 0]), Part(split, is_held.nonzero()[:, 0])


def _classes(split: Batches) -> TargetTensors:
    """The classes among the targets of a split, in main memory."""
    targets = split.targets if isinstance(split.targets, TargetTensors) else TargetTensors({})
    classes = {key: t.cpu() for key, t in targets.items() if targets.kinds[key].kind == "class"}
    return TargetTensors(classes, targets.kinds)
