"""Looks at finished runs: where their outputs conflict, what each of them needs, how training went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from offramp.analysis.convergence import curves
from offramp.analysis.diagnosis import Diagnosis
from offramp.analysis.findings import Findings
from offramp.analysis.measure import measure
from offramp.analysis.settings import Settings
from offramp.analysis.subject import open_subject
from offramp.errors import UserError
from offramp.reports import compare

__all__ = ["diagnose"]


def diagnose(
    folders: Sequence[str | Path],
    settings: Settings = Settings(),  # noqa: B008  (frozen)
    *,
    tell: Callable[[str], None] = lambda line: None,
) -> Diagnosis:
    """Diagnose runs of one net on one data set.

    Args:
        folders: Of finished runs.
        settings: What to look at.
        tell: Hears what is being measured, a line at a time.

    Raises:
        UserError: No finished runs of one net on one data set, outputs that share nothing, no validation
            images, or a damaged file.
    """
    groups = compare(folders).groups
    found: list[Findings] = []
    if set(settings.what) != {"convergence"}:
        sets: dict[tuple[Any, ...], Any] = {}
        for group in groups:
            for run in group.runs:
                label = f"{group.label} seed {run.seed}" if len(group.runs) > 1 else group.label
                found.append(measure(open_subject(run, label, group.label, sets), settings, tell))
    followed = [curves(group) for group in groups] if "convergence" in settings.what else []
    for one in followed:
        if not one.values:
            raise UserError(
                f"the metrics.csv of {one.label} is missing or damaged, so there are no curves to show"
            )
    return Diagnosis(settings, tuple(found), tuple(followed))
