"""A subset of a Tensor's channels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

__all__ = ["Channels"]


@dataclass(frozen=True)
class Channels:
    """A subset of C channels, as runs of neighbours: plain numbers, which a compiler can follow.

    Attributes:
        total: C.
        runs: (first, behind the last) of each run, in order; no two runs touch.
    """

    total: int
    runs: tuple[tuple[int, int], ...]

    @classmethod
    def flagged(cls, chosen: Iterable[bool]) -> Channels:
        """The channels whose flag is true, of C flags."""
        flags = list(chosen)
        runs, start = [], 0
        for flag, group in groupby(flags, key=bool):
            length = sum(1 for _ in group)
            if flag:
                runs.append((start, start + length))
            start += length
        return cls(len(flags), tuple(runs))

    @classmethod
    def every(cls, total: int) -> Channels:
        """The subset of all C channels."""
        return cls(total, ((0, total),))

    @property
    def count(self) -> int:
        """Number of channels in the subset."""
        return sum(stop - start for start, stop in self.runs)

    @property
    def is_all(self) -> bool:
        """Whether the subset holds all C channels."""
        return self.count == self.total

    def of(self, tensor: Tensor, dim: int) -> Tensor:
        """The subset's channels of a Tensor along axis ``dim``: a view of one run, a copy of several."""
        if self.is_all:
            return tensor
        parts = [tensor.narrow(dim, start, stop - start) for start, stop in self.runs]
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts, dim) if parts else tensor.narrow(dim, 0, 0)

    def rest(self) -> Channels:
        """The complement: the channels that are not in the subset."""
        ends = [0, *(end for run in self.runs for end in run), self.total]
        gaps = zip(ends[::2], ends[1::2], strict=True)
        return Channels(self.total, tuple((start, stop) for start, stop in gaps if start < stop))

    def union(self, other: Channels) -> Channels:
        """The union with another subset of the same C channels."""
        runs: list[tuple[int, int]] = []
        for start, stop in sorted(self.runs + other.runs):
            if runs and start <= runs[-1][1]:
                runs[-1] = (runs[-1][0], max(stop, runs[-1][1]))
            else:
                runs.append((start, stop))
        return Channels(self.total, tuple(runs))

    def followed_by(self, other: Channels) -> Channels:
        """The subset of a concatenation of two Tensors, this one's channels first."""
        behind = tuple((start + self.total, stop + self.total) for start, stop in other.runs)
        total = self.total + other.total
        return Channels(total, self.runs).union(Channels(total, behind))

    def repeated(self, times: int) -> Channels:
        """The subset of C x times channels in which each channel has become ``times`` neighbours."""
        return Channels(self.total * times, tuple((a * times, b * times) for a, b in self.runs))
