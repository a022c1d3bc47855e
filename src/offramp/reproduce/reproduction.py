"""Reproduce a published table or figure: plan it, train what is not trained yet, report."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from offramp.checks import of_kind, word_of
from offramp.errors import UserError, shown
from offramp.plain_json import parse_json, plain_json
from offramp.reports import check_report_folder
from offramp.reproduce.catalogue import COMPUTATIONS, EXPERIMENTS, NOT_KNOWN
from offramp.reproduce.computation import ComputationPlan, computation_plan
from offramp.reproduce.experiment import Report
from offramp.reproduce.planning import Plan, plan_of
from offramp.runs.files import disk_errors
from offramp.sweeps import check_weights, sweep

__all__ = ["Reproduction", "plan", "reproduce"]

SWEEP, TEXT, DOCUMENT = "sweep.yaml", "reproduction.txt", "reproduction.json"


@dataclass(frozen=True)
class Reproduction:
    """Outcome of a plan.

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
        UserError: A mistake that is found before the first run starts, such as files of another origin where
            the report would go, or a finished run without the weights that a figure needs; or every run
            failed.
        Interruption: The runs were stopped; the same plan goes on.
    """
    of_kind("planned", planned, Plan | ComputationPlan, "what offramp.reproduce.plan returns")
    _check_folder(planned)
    if isinstance(planned, ComputationPlan):
        _claim(planned)
        report = planned.computation.report(planned)
        return _written(planned, report, {}, {})
    if planned.experiment.runs_nets:
        check_weights(planned.sweep)
    outcome = sweep(planned.sweep, jobs=jobs, quiet=quiet)
    if outcome.error is not None and not outcome.finished:
        raise outcome.error
    _claim(planned)
    report = planned.experiment.report(planned, outcome)
    failed = {failure.name: failure.reason for failure in outcome.failures}
    found = _written(planned, report, failed, {SWEEP: planned.text})
    return replace(found, error=outcome.error)


def _check_folder(planned: Plan | ComputationPlan) -> None:
    """Check that no file of another origin stands where the report goes.

    Raises:
        UserError: One does, or the report of another table or figure.
    """
    folder, name = planned.folder, planned.to_dict()["name"]
    with disk_errors(folder):
        there = [file for file in (SWEEP, TEXT, DOCUMENT) if os.path.lexists(folder / file)]
        if isinstance(planned, Plan) and folder == planned.sweep.out:
            check_report_folder(folder)
        else:  # a figure's own, with whatever pictures and numbers it has
            there += sorted(path.name for kind in ("png", "json") for path in folder.glob(f"*.{kind}"))
        found = _reproduced(folder / DOCUMENT) if DOCUMENT in there else None
    if there and found != name:
        of_another = "" if found is None else f", with the reproduction of {shown(found)}"
        raise UserError(
            f"{folder / there[0]} is there{of_another}, and the report of {name} may replace it; choose "
            "another folder, or move it away"
        )


def _claim(planned: Plan | ComputationPlan) -> None:
    """Say in the folder whose report it gets, before pictures are drawn there."""
    with disk_errors(planned.folder):
        planned.folder.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(planned.folder / DOCUMENT):
            _write(planned.folder / DOCUMENT, planned.to_dict())


def _write(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(plain_json(document, indent=1) + "\n", encoding="utf-8")


def _reproduced(path: Path) -> Any:
    """What a file is the report of; None, if it is none of a reproduction."""
    try:
        return parse_json(path.read_bytes())["name"]
    except (ValueError, TypeError, KeyError):
        return None


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
    with disk_errors(planned.folder):
        _write(planned.folder / DOCUMENT, document)
        for name, content in {TEXT: text + "\n", **files}.items():
            (planned.folder / name).write_text(content, encoding="utf-8")
    return Reproduction(document, text)
