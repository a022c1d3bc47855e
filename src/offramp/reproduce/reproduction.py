"""Reproduce a published table or figure: plan it, train what is not trained yet, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from offramp.checks import of_kind, word_of
from offramp.errors import UserError
from offramp.plain_json import plain_json
from offramp.reproduce.catalogue import COMPUTATIONS, EXPERIMENTS, NOT_KNOWN
from offramp.reproduce.computation import ComputationPlan, computation_plan
from offramp.reproduce.experiment import Report
from offramp.reproduce.planning import Plan, plan_of
from offramp.runs.files import disk_errors
from offramp.sweeps import sweep

__all__ = ["Reproduction", "plan", "reproduce"]


@dataclass(frozen=True)
class Reproduction:
    """What became of a plan.

    Attributes:
        document: Plain values, ready for JSON.
        text: The same for people.
        error: What to raise for runs that failed, if any did.
    """

    document: dict[str, Any]
    text: str
    error: Exception | None = None


def plan(
    name: str,
    data: str | None = None,
    out: str | Path | None = None,
    *,
    stand_in: str | None = None,
    scale: str | float | Fraction = 1,
    only: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
) -> Plan | ComputationPlan:
    """Plan the reproduction of a published table or figure; nothing is trained or written.

    Args:
        name: A key of :data:`~offramp.reproduce.catalogue.EXPERIMENTS`, e.g. ``"dfs-table2"``, or of
            :data:`~offramp.reproduce.catalogue.COMPUTATIONS`.
        data: The published set: a folder, or a name that :func:`offramp.data.open_data` opens.
        out: Folder of the runs; by default ``runs/<name>``, or the table's whose runs a figure is drawn from.
        stand_in: Other data in its place, as ``"CIFAR-100=path"``.
        scale: Shrinks width, training images and epochs alike, e.g. ``"1/16"``.
        only: Rows, by their labels or by the names of their methods; by default all.
        seeds: By default those of the publication.

    Raises:
        UserError: No such table, figure or row, data that are not the published set, an argument that has no
            meaning for a figure that nothing is trained for, or a value out of range.
    """
    if isinstance(name, str) and name in NOT_KNOWN:
        raise UserError(f"{name} cannot be reproduced: {NOT_KNOWN[name]}; name another table or figure")
    word_of("name", name, {**EXPERIMENTS, **COMPUTATIONS}, "published table or figure")
    if name in COMPUTATIONS:
        return computation_plan(
            COMPUTATIONS[name], data, out, stand_in=stand_in, scale=scale, only=only, seeds=seeds
        )
    return plan_of(EXPERIMENTS[name], data, out, stand_in=stand_in, scale=scale, only=only, seeds=seeds)


def reproduce(planned: Plan | ComputationPlan, *, jobs: int = 1, quiet: bool = False) -> Reproduction:
    """Train what a plan asks for and is not trained yet, and report it beside what was published.

    The folder of the plan gets the runs, ``sweep.yaml``, ``reproduction.txt`` and ``reproduction.json``, and
    what the kind of report writes; of a figure all but the runs goes to a folder of its own in it. A plan
    that is stopped goes on when it is given again.

    Args:
        planned: The plan.
        jobs: Number of runs at a time.
        quiet: Say nothing while it runs.

    Raises:
        UserError: A mistake that is found before the first run starts, or every run failed.
        Interruption: The runs were stopped; the same plan goes on.
    """
    of_kind("planned", planned, Plan | ComputationPlan, "what offramp.reproduce.plan returns")
    if isinstance(planned, ComputationPlan):
        report = planned.computation.report(planned)
        return _written(planned, report, {}, {})
    outcome = sweep(planned.sweep, jobs=jobs, quiet=quiet)
    if outcome.error is not None and not outcome.finished:
        raise outcome.error
    report = planned.experiment.report(planned, outcome)
    failed = {failure.name: failure.reason for failure in outcome.failures}
    found = _written(planned, report, failed, {"sweep.yaml": planned.text})
    return replace(found, error=outcome.error)


def _written(
    planned: Plan | ComputationPlan, report: Report, failed: Mapping[str, str], files: Mapping[str, str]
) -> Reproduction:
    """The report with all that differs, written into the plan's folder beside other files."""
    lines = [planned.notes(), *(f"failed: {name}: {reason}" for name, reason in failed.items())]
    text = "\n\n".join([planned.title, report.text, "\n".join(lines)])
    document = {
        **planned.to_dict(),
        **report.document,
        "differs": [*planned.differs],
        "untrained": {row.label: row.untrained for row in getattr(planned, "untrained", ())},
        "failed": dict(failed),
    }
    files = {
        **files,
        "reproduction.txt": text + "\n",
        "reproduction.json": plain_json(document, indent=1) + "\n",
    }
    with disk_errors(planned.folder):
        planned.folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (planned.folder / name).write_text(content, encoding="utf-8")
    return Reproduction(document, text)
