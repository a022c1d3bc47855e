"""The learning rate of a method, picked on validation, and what it cost to find it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from offramp.errors import UserError
from offramp.reports.runs import RunRecord
from offramp.runs.output import Output
from offramp.tasks.delta_m import delta_m

__all__ = ["RateResult", "pick_rate"]


@dataclass(frozen=True)
class RateResult:
    """One learning rate of a search.

    Attributes:
        lr: The learning rate.
        seeds: The seeds of its runs.
        metric: What decides: the primary metric of the outputs, or ``delta_m`` where they have several.
        value: That metric on the validation samples after the last epoch, mean of the outputs and the seeds;
            ``delta_m`` is to the lowest rate tried, over the primary metrics.
        seconds: Training time of its runs together; None where one does not tell it.
    """

    lr: float
    seeds: tuple[int, ...]
    metric: str
    value: float
    seconds: float | None


def pick_rate(runs: Sequence[RunRecord]) -> tuple[list[RunRecord], tuple[RateResult, ...]]:
    """The runs at the learning rate that is best on validation, and all the rates that were tried.

    Only rates that were run with the most seeds can be picked: one that failed for a seed is out. Of two
    equal ones the lower is picked. The test set plays no part.

    Args:
        runs: Of one method, alike but for their learning rates and seeds.

    Raises:
        UserError: A run without validation metrics.
    """
    by_lr: dict[float, list[RunRecord]] = {}
    for run in sorted(runs, key=lambda run: run.recipe["lr"]):
        by_lr.setdefault(run.recipe["lr"], []).append(run)
    outputs = runs[0].result.outputs
    means = [_means(group) for group in by_lr.values()]
    rates = [
        _rate_result(lr, group, *_criterion(outputs, mean, means[0]))
        for (lr, group), mean in zip(by_lr.items(), means, strict=True)
    ]
    most = max(len(rate.seeds) for rate in rates)
    complete = [rate for rate in rates if len(rate.seeds) == most]
    output = next(iter(outputs.values()))
    higher = rates[0].metric == output.primary and output.better == "higher"
    best = (max if higher else min)(complete, key=lambda rate: rate.value)
    return by_lr[best.lr], tuple(rates)


def _means(runs: Sequence[RunRecord]) -> dict[str, float]:
    """Each output's validation metric, mean of the runs."""
    for run in runs:
        if not run.validation:
            raise UserError(
                f"cannot pick a learning rate: {run.folder} has no validation metrics in its metrics.csv; "
                "train with validation samples, e.g. `Recipe(val_fraction=0.1)`"
            )
    return {name: fmean(run.validation[name] for run in runs) for name in runs[0].validation}


def _criterion(
    outputs: Mapping[str, Output], means: Mapping[str, float], lowest: Mapping[str, float]
) -> tuple[str, float]:
    """Metric and value by which a rate is judged, from the means of its outputs and of the lowest rate's."""
    primaries = {output.primary for output in outputs.values()}
    if len(primaries) == 1:
        return primaries.pop(), fmean(means.values())
    return "delta_m", delta_m(means, lowest, {name: output.better for name, output in outputs.items()})


def _rate_result(lr: float, runs: Sequence[RunRecord], metric: str, value: float) -> RateResult:
    seconds = [run.seconds for run in runs if run.seconds is not None]
    return RateResult(
        lr=lr,
        seeds=tuple(sorted(run.seed for run in runs)),
        metric=metric,
        value=value,
        seconds=sum(seconds) if len(seconds) == len(runs) else None,
    )
