"""How the gradients of every two outputs stand to each other: their cosine on what both share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from offramp.analysis.gradients import TaskGradients

__all__ = ["Cosines", "PairConflict"]

Matrix = tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class Cosines:
    """Cosines of the gradients of K outputs over the batches, K rows of K; None for two that share nothing.

    Attributes:
        mean: Mean over the batches; below 0 the outputs conflict.
        opposed: Share of the batches in which it is below 0.
    """

    mean: Matrix
    opposed: Matrix


class PairConflict:
    """Measures the cosine of every two outputs' gradients, batch by batch, on the weights that both share.

    A batch in which one of the two gradients is zero says nothing of the pair.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[int, int], list[float]] = {}
        self._outputs = 0

    def add(self, batch: TaskGradients) -> None:
        """Take in one batch."""
        self._outputs = len(batch.gradients)
        for a, one in enumerate(batch.gradients):
            for b, other in enumerate(batch.gradients[:a]):
                names = [name for name in one if name in other]
                if not names:
                    continue
                dot = _sum([(one[name].double() * other[name].double()).sum() for name in names])
                sizes = [_sum([g[name].double().square().sum() for name in names]) for g in (one, other)]
                if all(sizes):
                    self._found.setdefault((b, a), []).append(dot / (sizes[0] * sizes[1]) ** 0.5)

    def cosines(self) -> Cosines:
        """What was measured so far."""
        return Cosines(
            self._matrix(fmean, 1.0), self._matrix(lambda values: fmean(value < 0 for value in values), 0.0)
        )

    def _matrix(self, summary: Callable[[list[float]], float], diagonal: float) -> Matrix:
        rows = []
        for a in range(self._outputs):
            row: list[float | None] = []
            for b in range(self._outputs):
                values = self._found.get((min(a, b), max(a, b)))
                row.append(diagonal if a == b else None if values is None else summary(values))
            rows.append(tuple(row))
        return tuple(rows)


def _sum(values: Sequence[Tensor]) -> float:
    return float(torch.stack([*values]).sum())
