"""Accuracy against a budget of operations, for finished runs of one net: their methods side by side."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offramp.data import OpenedData
from offramp.exits import ExitLogits, PathCosts
from offramp.exits.budget_curve import BudgetCurve, budget_curve
from offramp.exits.calibration.recording import record
from offramp.exits.exit_logits import target_of
from offramp.nets import Net
from offramp.papers.catalogue import published_curve
from offramp.papers.published import Curve
from offramp.reports._budget_document import budget_document
from offramp.reports._budget_text import budget_text
from offramp.reports._grouping import grouped
from offramp.reports._notes import differing_data, differing_recipes
from offramp.reports._published_curve import unlike
from offramp.reports.budget_groups import BudgetGroup
from offramp.reports.groups import Group
from offramp.runs import Run
from offramp.runs.record import read_record
from offramp.runs.sets import SETTINGS

__all__ = ["Budget", "Measured", "budget", "measure"]


@dataclass(frozen=True)
class Measured:
    """A run whose curve was measured, with what it was measured on.

    Attributes:
        run: The run.
        test: The exits' logits on the test samples.
        curve: The curve.
    """

    run: Run
    test: ExitLogits
    curve: BudgetCurve


@dataclass(frozen=True)
class Budget:
    """The curves of several methods on one net and one data set.

    Attributes:
        groups: Plain joint training first.
        notes: Remarks to read beside the numbers.
        published: A published curve of the same net and data by its name, if asked for and there.
    """

    groups: tuple[BudgetGroup, ...]
    notes: tuple[str, ...]
    published: tuple[str, Curve] | None = None

    @property
    def title(self) -> str:
        """The net and the data."""
        run = self.groups[0].group.runs[0]
        return f"{run.net} on {run.data}"

    def table(self) -> str:
        """The curves point by point, the exits, the oracle and the static network."""
        return budget_text(self.title, self.groups, self.notes, self.published)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return budget_document(self.groups, self.notes, self.published)


def budget(
    folders: Sequence[str | Path],
    *,
    net: Net | None = None,
    best: bool = False,
    published: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Budget:
    """Measure what runs reach at each budget: thresholds from validation, accuracy and cost on test samples.

    The exits' logits on both are computed once for each run, and serve all points of its curve
    (:func:`~offramp.exits.budget_curve.budget_curve`).

    Args:
        folders: Of finished runs of one net on one data set.
        net: One like those that were trained, to be copied for the weights of each folder; needed if
            ``offramp.nets`` has not built them.
        best: Fit the best thresholds at each budget too, which takes longer.
        published: A published curve to show beside, where net and data are the same: a key of
            :data:`offramp.papers.catalogue.CURVES`.
        tell: Receives a line before each run.

    Raises:
        UserError: No such curve, runs that cannot be compared, whose nets have no exits in a row or unknown
            operations, that held out no validation samples, or whose data cannot be opened.
    """
    curve = None if published is None else published_curve(published)
    groups, differing = grouped(folders)
    opened: dict[str, OpenedData[Any]] = {}

    def measured(group: Group) -> Iterator[BudgetCurve]:
        for run in group.runs:
            yield measure(run.folder, net, opened, best=best, tell=tell).curve

    found = Budget(
        tuple(BudgetGroup(group, tuple(measured(group))) for group in groups),
        (*differing_recipes(differing), *differing_data(groups)),
    )
    if published is None or curve is None:
        return found
    reason = unlike(curve, groups[0].runs[0])
    if reason is None:
        return Budget(found.groups, found.notes, (published, curve))
    return Budget(found.groups, (*found.notes, f"{published} (published) is not shown: {reason}"))


def measure(
    folder: Path,
    net: Net | None,
    opened: dict[str, OpenedData[Any]],
    *,
    best: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Measured:
    """Measure the curve of one run.

    Args:
        folder: Of the finished run.
        net: As for :func:`budget`, and so are ``best`` and ``tell``.
        opened: Data sets that are open already, by how they were read; this run's is added.

    Raises:
        UserError: As :func:`budget`.
    """
    stored = read_record(folder)
    key = json.dumps([stored["data"], {name: stored["recipe"].get(name) for name in SETTINGS}])
    run = Run.open(folder, copy.deepcopy(net), data=opened.get(key))
    target_of(run.net)  # refuses what has no exits in a row
    opened[key] = run.open_data()  # runs that read a set alike share it
    model: Any = run.net
    costs = PathCosts(model)
    val_batches = run.batches("val")  # refuses a run that held none out
    tell(f"{folder}: the exits' logits on validation and test samples")
    val, test = record(model, val_batches, run=run), ExitLogits.of(model, run.batches("test"))
    return Measured(run, test, budget_curve(val, test, costs, best=best))
