"""Groups of runs side by side: accuracy, paired differences and cost, as text and as plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from offramp.reports.groups import Group
from offramp.reports.paired import Difference, Spread
from offramp.reports.published import PublishedRows
from offramp.reports.table import aligned, count

__all__ = ["Comparison"]


@dataclass(frozen=True)
class Comparison:
    """Groups of runs of one net on one data set; the first group is the baseline.

    Attributes:
        groups: The baseline, then the others in the order in which their runs were given.
        notes: Remarks to read beside the numbers.
        published: The rows of a published table to show beside the measured ones, if asked for.
    """

    groups: tuple[Group, ...]
    notes: tuple[str, ...]
    published: PublishedRows | None = None

    @property
    def title(self) -> str:
        """The net and the data."""
        return f"{self.groups[0].runs[0].net} on {self.groups[0].runs[0].data}"

    @property
    def columns(self) -> list[str]:
        """Headings of the scores: the exits from 1, the average, the ensemble."""
        return [*(str(k + 1) for k in range(len(self.groups[0].costs))), "average", "ensemble"]

    def table(self) -> str:
        """Accuracies, paired differences to the first group, and what the training cost."""
        baseline, *others = self.groups
        parts = [f"{self.title}: top-1 in percent by exit, mean ± sample standard deviation over the seeds"]
        parts.append(self._scores())
        if self.published is not None:
            parts.append(self.published.title())
        if others:
            parts.append(
                f"difference to {baseline.label} in points, paired by seed, ± half of the 95 % t interval "
                "(*: the interval of three or more seeds leaves out 0)"
            )
            parts.append(self._differences())
        parts.append(
            "cost of the training; seconds of runs side by side on one machine say little about speed"
        )
        parts.append(self._costs())
        notes = [*self.notes, *(self.published.notes if self.published else ())]
        if notes:
            parts.append("\n".join(f"note: {note}" for note in notes))
        return "\n\n".join(parts)

    def _scores(self) -> str:
        rows = []
        for group in self.groups:
            if group is self.groups[0] or group.costs != self.groups[0].costs:
                of = "" if group is self.groups[0] else f" {group.label}"
                params, flops = zip(*group.costs, strict=True)
                rows.append([f"params{of}", *map(count, params), "", ""])
                rows.append([f"FLOPs{of}", *map(count, flops), "", ""])
        rows += [[group.label, *map(str, group.scores)] for group in self.groups]
        rows += self.published.cells() if self.published else []
        return aligned(["exit", *self.columns], rows)

    def _differences(self) -> str:
        baseline, *others = self.groups
        rows = []
        for group in others:
            differences = group.minus(baseline)
            blank = ["no common seed", *[""] * (len(self.columns) - 1)]
            rows.append([group.label, *(blank if differences is None else map(str, differences))])
        return aligned(["exit", *self.columns], rows)

    def _costs(self) -> str:
        baseline = self.groups[0]
        header = ["method", "seeds", "s/epoch", f"x {baseline.label}", "passes a step", "joint epochs"]
        rows = [
            [
                group.label,
                ", ".join(map(str, group.seeds)),
                _text(group.seconds_per_epoch, lambda s: f"{s.mean:.{0 if s.mean >= 100 else 1}f}"),
                _text(group.relative_seconds(baseline), "{:.2f}".format),
                group.passes,
                _text(group.joint_epochs, "{:.4g}".format),
            ]
            for group in self.groups
        ]
        if any(group.tried for group in self.groups):
            header += ["lr", "validation top-1 of each lr tried", "s in all"]
            for row, group in zip(rows, self.groups, strict=True):
                tried = ", ".join(f"{rate.lr:.3g}: {rate.val_top1:.2f}" for rate in group.tried)
                row += [
                    f"{group.runs[0].recipe['lr']:.3g}",
                    tried,
                    _text(group.search_seconds, "{:.0f}".format),
                ]
        return aligned(header, rows, left=2)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain values: the runs' results, the groups' spreads, the paired differences."""
        baseline, *others = self.groups
        return {
            "runs": [
                {"folder": str(run.folder), **run.result.to_json()}
                for group in self.groups
                for run in group.runs
            ],
            "groups": [
                {
                    "label": g.label,
                    "seeds": g.seeds,
                    **_named(g.scores),
                    "seconds": _plain(g.seconds),
                    "seconds_per_epoch": _plain(g.seconds_per_epoch),
                    "relative_seconds": g.relative_seconds(baseline),
                    "passes": g.passes,
                    "joint_epochs": g.joint_epochs,
                    "search": _search(g),
                }
                for g in self.groups
            ],
            "differences": [
                {"label": g.label, "baseline": baseline.label, **_named(difference)}
                for g in others
                if (difference := g.minus(baseline)) is not None
            ],
            "notes": list(self.notes),
            **({} if self.published is None else {"published": self.published.to_dict()}),
        }


def _text(value: Any, form: Callable[[Any], str]) -> str:
    return "" if value is None else form(value)


def _plain(value: Spread | None) -> dict[str, Any] | None:
    return None if value is None else dataclasses.asdict(value)


def _named(scores: list[Spread] | list[Difference]) -> dict[str, Any]:
    *exits, average, ensemble = (dataclasses.asdict(score) for score in scores)
    return {"exits": [{"top1": e} for e in exits], "average_top1": average, "ensemble_top1": ensemble}


def _search(group: Group) -> dict[str, Any] | None:
    if not group.tried:
        return None
    return {
        "lr": group.runs[0].recipe["lr"],
        "tried": [{**dataclasses.asdict(rate), "seeds": list(rate.seeds)} for rate in group.tried],
        "seconds": group.search_seconds,
    }
