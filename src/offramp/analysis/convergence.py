"""Course of metrics and loss in training, against epochs and against passes (DR-MGF, Fig 10, 11).

An epoch of DR-MGF costs K + 1 epochs of joint training, so curves over epochs alone are no comparison.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan
from statistics import fmean
from typing import Any

from offramp.reports import Group, RunRecord, Spread, spread
from offramp.tasks.outputs import are_exits, column

__all__ = ["Curves", "curves"]

# Summaries of a quantity's values at the K outputs.
_OUTPUTS: dict[str, Callable[[Sequence[float]], float]] = {"mean": fmean, "last": lambda values: values[-1]}


@dataclass(frozen=True)
class Curves:
    """Metric and loss, epoch by epoch, of a group of runs that differ in their seed only.

    Attributes:
        label: Label of the group.
        epochs: 1, 2, ...
        passes: Forward and backward passes so far, in epochs of joint training.
        values: ``val_METRIC_mean``, ``val_METRIC_last``, ``train_loss_mean``, ``train_loss_last`` -> mean and
            spread over the seeds, an entry per epoch. ``mean`` is over the outputs, as the paper says;
            ``last`` is the last one, as its published figures show. Outputs with several primary metrics
            have no curve of them, nor has a run without validation; one whose losses were not all finite
            has none of its losses. Tasks have a curve each instead, ``train_loss_NAME`` and
            ``val_METRIC_NAME`` (Fig 11b).
        tasks: Names of the outputs that are tasks; none of exits.
    """

    label: str
    epochs: tuple[float, ...]
    passes: tuple[float, ...]
    values: Mapping[str, tuple[Spread, ...]]
    tasks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The curves as plain values; the spreads as lists of ``mean`` and ``std``."""
        return {
            "label": self.label,
            "epochs": list(self.epochs),
            "passes": list(self.passes),
            **{
                name: {"mean": [s.mean for s in series], "std": [s.std for s in series]}
                for name, series in self.values.items()
            },
        }


def curves(group: Group) -> Curves:
    """The curves of a group, up to the last epoch that all of its runs have logged.

    A run folder without the column ``passes`` holds a run of one pass an epoch.
    """
    epochs = min(len(run.epochs) for run in group.runs)
    rows = group.runs[0].epochs[:epochs]
    outputs = group.runs[0].result.outputs
    if not are_exits(outputs):
        columns = [f"train_loss_{name}" for name in outputs]
        columns += [f"val_{output.primary}_{name}" for name, output in outputs.items()]
        tasks = {key: _seeds(group, key, epochs) for key in columns}
        values = {key: series for key, series in tasks.items() if series}
        return replace(_curves(group, rows, values), tasks=tuple(outputs))
    primaries = {output.primary for output in outputs.values()}
    values = {}
    for quantity in [*(f"val_{metric}" for metric in primaries if len(primaries) == 1), "train_loss"]:
        series = [
            _series(run, [f"{quantity}_{column(name)}" for name in outputs], epochs) for run in group.runs
        ]
        for summary_name, summarise in _OUTPUTS.items():
            if epochs and all(exits and isfinite(sum(exits)) for run in series for exits in run):
                values[f"{quantity}_{summary_name}"] = tuple(
                    spread([summarise(exits) for exits in seeds]) for seeds in zip(*series, strict=True)
                )
    return _curves(group, rows, values)


def _curves(
    group: Group, rows: Sequence[Mapping[str, float]], values: Mapping[str, tuple[Spread, ...]]
) -> Curves:
    return Curves(
        label=group.label,
        epochs=tuple(row["epoch"] for row in rows),
        passes=tuple(row.get("passes", row["epoch"]) for row in rows),
        values=values,
    )


def _seeds(group: Group, column: str, epochs: int) -> tuple[Spread, ...]:
    """Mean and spread over the seeds of a logged column, by epoch; empty where some epoch lacks it."""
    series = [[row.get(column, nan) for row in run.epochs[:epochs]] for run in group.runs]
    if not all(map(isfinite, itertools.chain(*series))):
        return ()
    return tuple(spread([*values]) for values in zip(*series, strict=True))


def _series(run: RunRecord, columns: Sequence[str], epochs: int) -> Sequence[Sequence[float]]:
    """For every epoch the outputs' values, in their order; what was not logged is left out."""
    return [[row[key] for key in columns if key in row] for row in run.epochs[:epochs]]
