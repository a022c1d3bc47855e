"""Leaving early: the curves, times and pictures of every method whose samples can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from offramp.data import OpenedData
from offramp.errors import UserError
from offramp.exits.budget_curve import policy_point
from offramp.exits.path_times import PathTimes
from offramp.nets import Net
from offramp.reports.budget import Measured, measure
from offramp.reports.budget_groups import BudgetGroup
from offramp.reports.comparison import Comparison
from offramp.reports.groups import Group
from offramp.reports.html._charts import keys_of
from offramp.reports.html._parts import Key, Note, Section, refusals
from offramp.reports.html._pictures import Gallery, gallery
from offramp.reports.html._slider import SlidingGroup, slider_parts

__all__ = ["leaving_sections"]

MOST_PICTURED = 6  # methods
LEAD = (
    "A sample leaves at the first exit that is sure enough of it. The slider moves the thresholds of all "
    "exits together, from few operations to many; they are fitted on validation samples, and what is shown "
    "was measured on test samples."
)
PICTURES = (
    "The test samples that leave first at each exit, of which it is surest, and those that just about leave; "
    "by the thresholds at which the slider starts."
)


class _First(NamedTuple):
    """What the first run of a method has besides its curve: mean seconds of each position, and pictures."""

    seconds: list[float]
    pictures: Gallery | Note | None


def leaving_sections(
    comparison: Comparison, net: Net | None, *, times: bool, tell: Callable[[str], None]
) -> list[Section]:
    """The slider with its curves, and the samples that leave at each exit.

    Args:
        comparison: The runs. A method whose samples cannot leave early is told in a line.
        net: As for :func:`~offramp.reports.budget.budget`.
        times: Measure the time of each way through the net.
        tell: Receives a line before each run.
    """
    look = _Look(net, times, tell)
    keys = {key.label: key for key in keys_of([group.label for group in comparison.groups])}
    found: list[SlidingGroup] = []
    pictures: list[Gallery | Note] = []
    refused: dict[str, str] = {}
    for group in comparison.groups:
        try:
            sliding, picture = look(group, keys[group.label])
        except UserError as error:
            refused[group.label] = str(error)
            continue
        found.append(sliding)
        pictures += [picture] if picture else []
    notes = refusals(refused, len(comparison.groups))
    if not found:
        return [Section("leaving", "Leaving early", LEAD, notes)]
    if len(found) > MOST_PICTURED:
        pictures.append(Note(f"pictures of the first {MOST_PICTURED} methods only"))
    return [
        Section("leaving", "Leaving early", LEAD, [*slider_parts(found, look.start or 0), *notes]),
        Section("pictures", "First and last to leave", PICTURES, pictures),
    ]


class _Look:
    """Measures one method after the other; they share the data, the times, and where the slider starts."""

    def __init__(self, net: Net | None, times: bool, tell: Callable[[str], None]) -> None:
        self.start: int | None = None
        self._net, self._times, self._tell = net, times, tell
        self._opened: dict[str, OpenedData[Any]] = {}
        self._timed: dict[tuple[Any, ...], PathTimes] = {}
        self._pictured = 0

    def __call__(self, group: Group, key: Key) -> tuple[SlidingGroup, Gallery | Note | None]:
        """The curves of a method, and its pictures.

        Raises:
            UserError: As :func:`~offramp.reports.budget.measure`.
        """
        curves = []
        first: _First | None = None
        for run in group.runs:
            measured = measure(run.folder, self._net, self._opened, tell=self._tell)
            curves.append(measured.curve)
            first = first or self._first(group, measured)
        assert first is not None
        return SlidingGroup(BudgetGroup(group, tuple(curves)), key, first.seconds), first.pictures

    def _first(self, group: Group, measured: Measured) -> _First:
        policies = [fitted.policy for fitted in measured.curve.published]
        if self.start is None:
            self.start = _half(measured)
        seconds = []
        if self._times:
            times = self._times_of(tuple(group.costs), measured)
            seconds = [policy_point(measured.test, policy, times).executed for policy in policies]
        self._pictured += 1
        if self._pictured > MOST_PICTURED:
            return _First(seconds, None)
        try:
            return _First(seconds, gallery(group.label, measured, policies[self.start]))
        except UserError as error:
            return _First(seconds, Note(f"no pictures of {group.label}: {error}"))

    def _times_of(self, costs: tuple[Any, ...], measured: Measured) -> PathTimes:
        """The times of a net; those of one whose exits cost the same, where one was timed."""
        if costs not in self._timed:
            net: Any = measured.run.net
            self._timed[costs] = PathTimes(net, measured.curve.published[0].policy)
        return self._timed[costs]


def _half(measured: Measured) -> int:
    """The position whose operations are nearest to half of the whole network's."""
    curve = measured.curve
    distances = [abs(fitted.point.executed - curve.static.executed / 2) for fitted in curve.published]
    return distances.index(min(distances))
