"""Curves of accuracy against a budget over the seeds of a method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from offramp.exits.budget_curve import BudgetCurve, Point
from offramp.reports.groups import Group
from offramp.reports.paired import Spread, spread

__all__ = ["BudgetGroup", "MeanPoint"]


class MeanPoint(NamedTuple):
    """A :class:`~offramp.exits.budget_curve.Point` over the seeds of a method."""

    top1: Spread
    flops: Spread
    executed: Spread


@dataclass(frozen=True)
class BudgetGroup:
    """The curves of runs that differ in their seed only.

    Attributes:
        group: The runs, by rising seed.
        curves: One for each run.
    """

    group: Group
    curves: tuple[BudgetCurve, ...]

    @property
    def label(self) -> str:
        """The method, with what sets it apart from the other groups."""
        return self.group.label

    @property
    def published(self) -> list[MeanPoint]:
        """The 40 points of the published algorithm, each over the seeds at the same p."""
        return _means([[fitted.point for fitted in curve.published] for curve in self.curves])

    @property
    def best(self) -> list[MeanPoint]:
        """The points of the best thresholds at the same budgets; none if they were not asked for."""
        return _means([[fitted.point for fitted in curve.best] for curve in self.curves])

    @property
    def exits(self) -> list[MeanPoint]:
        """Each exit by itself."""
        return _means([curve.exits for curve in self.curves])

    @property
    def oracle(self) -> MeanPoint:
        """Each sample at its first right exit."""
        return _mean([curve.oracle for curve in self.curves])

    @property
    def static(self) -> MeanPoint:
        """The network without inner heads."""
        return _mean([curve.static for curve in self.curves])


def _means(curves: Sequence[Sequence[Point]]) -> list[MeanPoint]:
    return [*map(_mean, zip(*curves, strict=True))]


def _mean(points: Sequence[Point]) -> MeanPoint:
    return MeanPoint(*(spread([*values]) for values in zip(*(point[:3] for point in points), strict=True)))
