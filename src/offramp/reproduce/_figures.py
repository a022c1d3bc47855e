"""The reports on published figures that are drawn from trained runs: a picture and its numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from offramp.analysis import Settings, diagnose
from offramp.analysis.settings import SplitName
from offramp.papers.catalogue import CURVES
from offramp.reports.budget import budget
from offramp.reports.plot_budget import plot_budget
from offramp.reproduce._scaling import scaled
from offramp.reproduce.experiment import Report
from offramp.reproduce.planning import Plan
from offramp.say import say
from offramp.sweeps import SweepResult

__all__ = ["budget_report", "diagnosis_report"]

BATCHES = 200  # of a diagnosis at full scale: correlations over few say little
FEWEST = 2


def budget_report(plan: Plan, outcome: SweepResult) -> Report:
    """Accuracy against mean cost as samples leave early, and the published curves where they are known.

    A published curve is drawn beside ours where the network has its published width, whose operations it is
    over; in the text it stands always.
    """
    name = plan.experiment.name
    found = budget(outcome.finished, tell=say)
    if name in CURVES:
        found = replace(found, published=(name, CURVES[name]))
    drawn = found if plan.scale == 1 else replace(found, published=None)
    picture = plot_budget(drawn, _folder(plan) / "budget.png")
    return Report({**found.to_dict(), "picture": str(picture)}, f"{found.table()}\n\npicture: {picture}")


def diagnosis_report(
    *topics: str, split: SplitName = "val", beside: Callable[[dict[str, Any]], Report] | None = None
) -> Callable[[Plan, SweepResult], Report]:
    """A report by :func:`offramp.analysis.diagnose` on all runs of a sweep.

    Args:
        topics: What is looked at.
        split: The images that filters are pruned for; the published matrices are of test images.
        beside: What was published, from the content of the diagnosis; left out where no number is known.
    """

    def report(plan: Plan, outcome: SweepResult) -> Report:
        batches = max(FEWEST, scaled(BATCHES, plan.scale))
        found = diagnose(outcome.finished, Settings(what=topics, batches=batches, split=split), tell=say)
        folder = _folder(plan)
        document = found.write(folder)
        text = f"{found.table()}\n\npictures and numbers: {folder}"
        if beside is None:
            return Report(document, text)
        more = beside(document)
        return Report({**document, **more.document}, f"{text}\n\n{more.text}")

    return report


def _folder(plan: Plan) -> Path:
    """The figure's own folder, beside the runs."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    return plan.folder
