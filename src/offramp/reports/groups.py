"""Runs that differ in their seed only, as one: means, spreads, and paired differences to another group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite

from offramp.errors import UserError
from offramp.reports.columns import Column, has_tasks
from offramp.reports.paired import Difference, Spread, paired_difference, spread
from offramp.reports.runs import RunRecord
from offramp.reports.search import RateResult
from offramp.runs.result import Result

__all__ = ["Group", "costs_once"]


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only.

    Attributes:
        label: The method, with what sets it apart from the other groups.
        runs: One per seed, by rising seed.
        rates: The learning rates among which the runs' own was picked; none if nothing was searched.
    """

    label: str
    runs: tuple[RunRecord, ...]
    rates: tuple[RateResult, ...] = ()

    @property
    def seeds(self) -> list[int]:
        """The seeds of the runs."""
        return [run.seed for run in self.runs]

    @property
    def scores(self) -> dict[str, Spread]:
        """Each of the :attr:`~offramp.runs.result.Result.scores` over the seeds."""
        return {
            name: spread([run.result.scores[name] for run in self.runs])
            for name in self.runs[0].result.scores
        }

    @property
    def costs(self) -> list[tuple[int, int | None]]:
        """Params and FLOPs of every output; None where they are unknown."""
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
        seconds = [rate.seconds for rate in self.rates if rate.seconds is not None]
        return sum(seconds) if seconds and len(seconds) == len(self.rates) else None

    @property
    def last_epochs(self) -> Group | None:
        """The runs with the mean over their last epochs as result; None if a run has no such mean."""
        results = [run.result.of_last_epochs for run in self.runs]
        known = [result for result in results if result is not None]
        if len(known) < len(results):
            return None
        runs = [replace(run, result=result) for run, result in zip(self.runs, known, strict=True)]
        return replace(self, runs=tuple(runs))

    @property
    def epochs_in_mean(self) -> int:
        """How many last epochs there are to take the mean of; 0 without one."""
        last = self.runs[0].result.last_epochs
        return 0 if last is None else len(last.epochs)

    @property
    def of_epochs(self) -> str:
        """The words for a mean over the last epochs, as captions have them."""
        count = self.epochs_in_mean
        return "mean of the last epoch" if count == 1 else f"mean of the last {count} epochs"

    def spread_of(self, column: Column) -> Spread:
        """A metric of an output over the seeds."""
        return spread([run.result.outputs[column.output].metrics[column.metric] for run in self.runs])

    def minus(self, baseline: Group) -> dict[str, Difference] | None:
        """Paired difference of each score over the seeds that both have; None if they share no seed.

        Outputs of several tasks also have a ``delta_m``, the mean relative loss to the baseline in percent,
        where the baseline has no metric of 0.
        """
        pairs = self._pairs(baseline)
        if not pairs:
            return None
        differences = {
            name: paired_difference([a.scores[name] for a, _ in pairs], [b.scores[name] for _, b in pairs])
            for name in pairs[0][0].scores
        }
        if has_tasks(pairs[0][0]) and (losses := self.delta_m(baseline)):
            differences["delta_m"] = paired_difference(losses, [0.0] * len(losses))
        return differences

    def difference_of(self, column: Column, baseline: Group) -> Difference | None:
        """Paired difference of a metric of an output; None if the groups share no seed."""
        pairs = [
            [result.outputs[column.output].metrics[column.metric] for result in pair]
            for pair in self._pairs(baseline)
        ]
        return paired_difference(*map(list, zip(*pairs, strict=True))) if pairs else None

    def delta_m(self, baseline: Group) -> list[float]:
        """Delta-m of each seed that both groups have; none if the baseline has a metric of 0 or NaN."""
        try:
            found = [own.delta_m(other) for own, other in self._pairs(baseline)]
        except UserError:
            return []
        return found if all(map(isfinite, found)) else []

    def _pairs(self, baseline: Group) -> list[tuple[Result, Result]]:
        """The results of the seeds that both groups have."""
        other = {run.seed: run.result for run in baseline.runs}
        return [(run.result, other[run.seed]) for run in self.runs if run.seed in other]

    def relative_seconds(self, baseline: Group) -> float | None:
        """Seconds of an epoch as a multiple of the baseline's, where both tell them."""
        own, reference = self.seconds_per_epoch, baseline.seconds_per_epoch
        return own.mean / reference.mean if own and reference and reference.mean > 0 else None


def costs_once(groups: Sequence[Group]) -> Iterator[tuple[str, Group]]:
    """Groups whose outputs cost what those of no group before cost, each behind the words that tell it apart.

    The words begin with a space; those of the first group are empty.
    """
    seen: list[list[tuple[int, int | None]]] = []
    for group in groups:
        if group.costs not in seen:
            yield (f" {group.label}" if seen else ""), group
            seen.append(group.costs)
