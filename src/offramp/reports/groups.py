"""Runs grouped by what was done, one group a method, and the groups side by side."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from offramp.reports.paired import Difference, Spread, paired_difference, spread
from offramp.reports.runs import RunRecord
from offramp.reports.table import aligned, count

__all__ = ["Comparison", "Group"]


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only.

    Attributes:
        label: The method, with what sets it apart from the other groups.
        runs: One per seed, by rising seed.
    """

    label: str
    runs: tuple[RunRecord, ...]

    @property
    def seeds(self) -> list[int]:
        """The seeds of the runs."""
        return [run.seed for run in self.runs]

    @property
    def scores(self) -> list[Spread]:
        """Top-1 over the seeds: every exit, then the average and the ensemble."""
        return [spread(column) for column in zip(*(run.scores for run in self.runs), strict=True)]

    @property
    def costs(self) -> list[tuple[int, int]]:
        """Params and FLOPs of every exit."""
        return [(e["params"], e["flops"]) for e in self.runs[0].result["exits"]]

    @property
    def seconds(self) -> Spread | None:
        """Time of the training steps over the seeds, where every run tells it."""
        seconds = [run.seconds for run in self.runs if run.seconds is not None]
        return spread(seconds) if len(seconds) == len(self.runs) else None

    def minus(self, baseline: Group) -> list[Difference] | None:
        """Paired difference of each score over the seeds that both have; None if they share no seed."""
        ours, theirs = ({run.seed: run.scores for run in group.runs} for group in (self, baseline))
        common = sorted(ours.keys() & theirs.keys())
        if not common:
            return None
        a = zip(*(ours[seed] for seed in common), strict=True)
        b = zip(*(theirs[seed] for seed in common), strict=True)
        return [paired_difference(x, y) for x, y in zip(a, b, strict=True)]


@dataclass(frozen=True)
class Comparison:
    """Groups of runs of one net on one data set; the first group is the baseline.

    Attributes:
        groups: In the order in which the runs were given.
        notes: What a reader has to know beside the numbers.
    """

    groups: tuple[Group, ...]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """The net and the data."""
        return f"{self.groups[0].runs[0].net} on {self.groups[0].runs[0].data}"

    def table(self) -> str:
        """The accuracies and, below them, the paired differences to the first group."""
        baseline, *others = self.groups
        parts = [f"{self.title}: top-1 in percent, mean ± sample standard deviation over the seeds", ""]
        parts.append(self._scores())
        if others:
            parts += ["", f"difference to {baseline.label}, in points, paired by seed [95 % t interval]", ""]
            parts.append(self._differences())
        if self.notes:
            parts += ["", *(f"note: {note}" for note in self.notes)]
        return "\n".join(parts)

    def _scores(self) -> str:
        alike = len({tuple(group.costs) for group in self.groups}) == 1
        costs = self.groups[:1] if alike else self.groups
        header = ["exit"]
        for group in costs:
            header += ["params", "FLOPs"] if alike else [f"params {group.label}", f"FLOPs {group.label}"]
        header += [group.label for group in self.groups]
        blank = ["", ""] * len(costs)
        columns = [group.scores for group in self.groups]
        rows = []
        for k, name in enumerate(self._names()):
            exits = k < len(self.groups[0].costs)
            cells = [count(c) for group in costs for c in group.costs[k]] if exits else blank
            rows.append([name, *cells, *(str(column[k]) for column in columns)])
        rows.append(["seeds", *blank, *(", ".join(map(str, group.seeds)) for group in self.groups)])
        seconds = [group.seconds for group in self.groups]
        if any(seconds):
            rows.append(
                [
                    "seconds",
                    *blank,
                    *(f"{s.mean:.{0 if s.mean >= 100 else 1}f}" if s else "" for s in seconds),
                ]
            )
        return aligned(header, rows)

    def _differences(self) -> str:
        baseline, *others = self.groups
        columns = [group.minus(baseline) for group in others]
        rows = [
            [name, *("no common seed" if column is None else str(column[k]) for column in columns)]
            for k, name in enumerate(self._names())
        ]
        return aligned(["exit", *(group.label for group in others)], rows)

    def _names(self) -> list[str]:
        return [*(str(k + 1) for k in range(len(self.groups[0].costs))), "average", "ensemble"]

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values: the runs' results, the groups' spreads, the paired differences."""
        baseline, *others = self.groups
        return {
            "runs": [
                {"folder": str(run.folder), **run.result} for group in self.groups for run in group.runs
            ],
            "groups": [
                {
                    "label": g.label,
                    "seeds": g.seeds,
                    **_named(g.scores),
                    "seconds": None if g.seconds is None else dataclasses.asdict(g.seconds),
                }
                for g in self.groups
            ],
            "differences": [
                {"label": g.label, "baseline": baseline.label, **_named(difference)}
                for g in others
                if (difference := g.minus(baseline)) is not None
            ],
            "notes": list(self.notes),
        }


def _named(scores: list[Spread] | list[Difference]) -> dict[str, Any]:
    *exits, average, ensemble = (dataclasses.asdict(score) for score in scores)
    return {"exits": [{"top1": e} for e in exits], "average_top1": average, "ensemble_top1": ensemble}
