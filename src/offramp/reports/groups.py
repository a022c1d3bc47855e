"""Runs that differ in their seed only, as one: means, spreads, and paired differences to another group."""

from __future__ import annotations

from dataclasses import dataclass

from offramp.reports.paired import Difference, Spread, paired_difference, spread
from offramp.reports.runs import RunRecord
from offramp.reports.search import Tried

__all__ = ["Group"]


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only.

    Attributes:
        label: The method, with what sets it apart from the other groups.
        runs: One per seed, by rising seed.
        tried: The learning rates among which the runs' own was picked; none if nothing was searched.
    """

    label: str
    runs: tuple[RunRecord, ...]
    tried: tuple[Tried, ...] = ()

    @property
    def seeds(self) -> list[int]:
        """The seeds of the runs."""
        return [run.seed for run in self.runs]

    @property
    def scores(self) -> list[Spread]:
        """Top-1 over the seeds: every exit, then the average and the ensemble."""
        return [spread(column) for column in zip(*(run.scores for run in self.runs), strict=True)]

    @property
    def costs(self) -> list[tuple[int, int | None]]:
        """Params and FLOPs of every exit; None where they are unknown."""
        return [(output.params, output.flops) for output in self.runs[0].result.outputs.values()]

    @property
    def passes(self) -> str:
        """Cost of a training step, F a forward and B a backward pass of joint training."""
        return self.runs[0].passes

    @property
    def joint_epochs(self) -> float | None:
        """Cost of the training in forward and backward passes, in epochs of joint training."""
        return self.runs[0].joint_epochs

    @property
    def seconds(self) -> Spread | None:
        """Time of the training steps over the seeds, where every run tells it."""
        seconds = [run.seconds for run in self.runs if run.seconds is not None]
        return spread(seconds) if len(seconds) == len(self.runs) else None

    @property
    def seconds_per_epoch(self) -> Spread | None:
        """Time of the training steps of one epoch over the seeds, where every run tells it."""
        seconds = [run.seconds / len(run.epochs) for run in self.runs if run.seconds is not None]
        return spread(seconds) if len(seconds) == len(self.runs) else None

    @property
    def search_seconds(self) -> float | None:
        """Time of the training steps of all runs of the search together, the picked ones among them."""
        seconds = [rate.seconds for rate in self.tried if rate.seconds is not None]
        return sum(seconds) if seconds and len(seconds) == len(self.tried) else None

    def minus(self, baseline: Group) -> list[Difference] | None:
        """Paired difference of each score over the seeds that both have; None if they share no seed."""
        ours, theirs = ({run.seed: run.scores for run in group.runs} for group in (self, baseline))
        common = sorted(ours.keys() & theirs.keys())
        if not common:
            return None
        a = zip(*(ours[seed] for seed in common), strict=True)
        b = zip(*(theirs[seed] for seed in common), strict=True)
        return [paired_difference(x, y) for x, y in zip(a, b, strict=True)]

    def relative_seconds(self, baseline: Group) -> float | None:
        """Seconds of an epoch as a multiple of the baseline's, where both tell them."""
        ours, theirs = self.seconds_per_epoch, baseline.seconds_per_epoch
        return ours.mean / theirs.mean if ours and theirs and theirs.mean > 0 else None
