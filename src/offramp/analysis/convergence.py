"""How accuracy and loss went while training, against epochs and against passes (DR-MGF, Fig 10, 11).

An epoch of DR-MGF costs K + 1 epochs of joint training, so curves over epochs alone are no comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean
from typing import Any

from offramp.reports import Group, RunRecord, Spread, spread

__all__ = ["QUANTITIES", "Curves", "curves"]

# Name -> the columns of metrics.csv, and what is made of those of the K exits.
_COLUMNS = {"val_top1": "val_top1_", "train_loss": "train_loss_"}
_EXITS = {"mean": fmean, "last": lambda values: values[-1]}
QUANTITIES = tuple(f"{what}_{how}" for what in _COLUMNS for how in _EXITS)


@dataclass(frozen=True)
class Curves:
    """Accuracy and loss of a group of runs, alike but for the seed, epoch by epoch.

    Attributes:
        label: The group's.
        epochs: 1, 2, ...
        passes: Forward and backward passes so far, in epochs of joint training.
        values: A key of :data:`QUANTITIES` -> mean and spread over the seeds, an entry per epoch. ``mean`` is
            over the exits, as the paper says; ``last`` is the last exit, as its published figures show.
            Accuracies of the validation images in percent; a run without them has none, nor has one
            whose losses were not all finite.
    """

    label: str
    epochs: tuple[float, ...]
    passes: tuple[float, ...]
    values: Mapping[str, tuple[Spread, ...]]

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
    first = group.runs[0].epochs[:epochs]
    values = {}
    for what, prefix in _COLUMNS.items():
        for how, summary in _EXITS.items():
            series = [_series(run, prefix, epochs) for run in group.runs]
            if epochs and all(exits and isfinite(sum(exits)) for run in series for exits in run):
                values[f"{what}_{how}"] = tuple(
                    spread([summary(exits) for exits in at]) for at in zip(*series, strict=True)
                )
    return Curves(
        label=group.label,
        epochs=tuple(row["epoch"] for row in first),
        passes=tuple(row.get("passes", row["epoch"]) for row in first),
        values=values,
    )


def _series(run: RunRecord, prefix: str, epochs: int) -> Sequence[Sequence[float]]:
    """For every epoch the exits' values, shallow to deep."""
    keys = sorted(
        (key for key in (run.epochs[0] if run.epochs else ()) if key.startswith(prefix)),
        key=lambda key: int(key.removeprefix(prefix)),
    )
    return [[row[key] for key in keys] for row in run.epochs[:epochs]]
