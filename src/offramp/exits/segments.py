"""The segments of a net: what runs from one place where samples may leave to the next."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import accumulate
from typing import Any, TypeVar

from torch import Tensor, nn

from offramp.nets.exits import handed_on, reads_previous

__all__ = ["Segment", "heads_needed", "path", "segments"]

T = TypeVar("T", int, float)


class Segment(nn.Module):
    """Stages in a row, and the head of the last; no sample leaves in between.

    Args:
        stages: The stages.
        heads: One for each; None where it is not needed, which the last always is.
        exit: The number of the exit that it ends with, from 1.
    """

    def __init__(self, stages: Sequence[nn.Module], heads: Sequence[nn.Module | None], exit: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.heads = nn.ModuleList(heads)  # type: ignore[arg-type]  # None is allowed and skipped by torch
        self.exit = exit
        self._reads = [head is not None and reads_previous(head) for head in heads]

    @property
    def reads_previous(self) -> bool:
        """Whether its first head reads what the one before it hands on."""
        return self._reads[0]

    def forward(self, x: Any, previous: Tensor | None) -> tuple[Any, Tensor, Tensor]:
        """The last stage's feature, its exit's logits, and what the head behind it reads.

        Args:
            x: What the first stage reads.
            previous: What the head before has handed on, None at the first.
        """
        return self.function()(x, previous)

    def function(self) -> Callable[[Any, Tensor | None], tuple[Any, Tensor, Tensor]]:
        """What :meth:`forward` does, for as long as no stage or head is replaced by another module.

        The modules are looked up once: for one sample each call of Python between two layers counts.
        """
        parts = [*zip(self.stages, self.heads, self._reads, strict=True)]

        def run(x: Any, previous: Tensor | None) -> tuple[Any, Tensor, Tensor]:
            logits: Tensor | None = None
            for stage, head, reads in parts:
                x = stage(x)
                if head is not None:
                    logits, previous = handed_on(head(x, previous) if reads else head(x))
            assert logits is not None and previous is not None  # the last head has run
            return x, logits, previous

        return run


def segments(
    stages: Sequence[nn.Module], heads: Sequence[nn.Module], evaluated: Collection[int]
) -> list[Segment]:
    """Cut a net into segments.

    Args:
        stages: K modules.
        heads: K modules.
        evaluated: The numbers of the exits at which samples may leave, K among them.
    """
    needed = heads_needed(heads, evaluated)
    kept = [head if k in needed else None for k, head in enumerate(heads, start=1)]
    ends = sorted(evaluated)
    return [
        Segment(stages[start:end], kept[start:end], end)
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]


def heads_needed(heads: Sequence[nn.Module], evaluated: Collection[int]) -> set[int]:
    """The exits whose heads run: those evaluated, and those whose logits a needed head reads."""
    needed = set(evaluated)
    for k in range(len(heads), 1, -1):
        if k in needed and reads_previous(heads[k - 1]):
            needed.add(k - 1)
    return needed


def path(
    stages: Sequence[T], heads: Sequence[T], needed: Collection[int], evaluated: Collection[int]
) -> list[T]:
    """What a sample takes up to each evaluated exit.

    Args:
        stages: What each of the K stages takes.
        heads: What each of the K heads takes.
        needed: The exits whose heads run.
        evaluated: The exits at which samples may leave.
    """
    parts = (
        s + (h if k in needed else 0) for k, (s, h) in enumerate(zip(stages, heads, strict=True), start=1)
    )
    return [total for k, total in enumerate(accumulate(parts), start=1) if k in evaluated]
