"""The learning rate of a method, picked on validation accuracy, and what it cost to find it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from offramp.errors import UserError
from offramp.reports.runs import RunRecord

__all__ = ["Tried", "picked"]


@dataclass(frozen=True)
class Tried:
    """One learning rate of a search.

    Attributes:
        lr: The learning rate.
        seeds: The seeds of its runs.
        val_top1: Top-1 on the validation images after the last epoch, mean of the exits and the seeds.
        seconds: Training time of its runs together; None where one does not tell it.
    """

    lr: float
    seeds: tuple[int, ...]
    val_top1: float
    seconds: float | None


def picked(runs: Sequence[RunRecord]) -> tuple[list[RunRecord], tuple[Tried, ...]]:
    """The runs at the learning rate of the best validation accuracy, and all the rates that were tried.

    Only rates that were run with the most seeds can be picked: one that failed for a seed is out. Of two
    equal ones the lower is picked. Test accuracy plays no part.

    Args:
        runs: Of one method, alike but for their learning rates and seeds.

    Raises:
        UserError: A run without validation accuracy.
    """
    by_lr: dict[float, list[RunRecord]] = {}
    for run in runs:
        by_lr.setdefault(run.recipe["lr"], []).append(run)
    tried = [_tried(lr, by_lr[lr]) for lr in sorted(by_lr)]
    most = max(len(rate.seeds) for rate in tried)
    best = max((rate for rate in tried if len(rate.seeds) == most), key=lambda rate: rate.val_top1)
    return by_lr[best.lr], tuple(tried)


def _tried(lr: float, runs: Sequence[RunRecord]) -> Tried:
    accuracies = []
    for run in runs:
        if run.val_top1 is None:
            raise UserError(
                f"cannot pick a learning rate: {run.folder} has no validation accuracy in its metrics.csv; "
                "train with validation images, e.g. `Recipe(val_fraction=0.1)`"
            )
        accuracies.append(run.val_top1)
    seconds = [run.seconds for run in runs if run.seconds is not None]
    return Tried(
        lr=lr,
        seeds=tuple(sorted(run.seed for run in runs)),
        val_top1=fmean(accuracies),
        seconds=sum(seconds) if len(seconds) == len(runs) else None,
    )
