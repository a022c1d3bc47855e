"""Looks at finished runs: where their outputs conflict, what each of them needs, how training went."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from offramp.analysis.convergence import curves
from offramp.analysis.diagnosis import Diagnosis
from offramp.analysis.findings import Findings
from offramp.analysis.measure import measure
from offramp.analysis.settings import Settings
from offramp.analysis.subject import subject_of
from offramp.errors import UserError
from offramp.nets import MultiExitNet
from offramp.reports import compare
from offramp.training.run import Run

__all__ = ["diagnose"]


def diagnose(
    runs: Sequence[str | Path | Run],
    settings: Settings = Settings(),  # noqa: B008  (frozen)
    *,
    net: MultiExitNet | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Diagnosis:
    """Diagnose runs of one net on one data set.

    Args:
        runs: Finished runs, or their folders.
        settings: What to look at.
        net: One like those that were trained, to be copied for the weights of each folder; needed if
            ``offramp.nets`` has not built them.
        tell: Hears what is being measured, a line at a time.

    Raises:
        UserError: No finished runs of one net on one data set, outputs that share nothing, no validation
            images, or a damaged file.
    """
    opened = {_folder(run): run for run in runs if isinstance(run, Run)}
    groups = compare([_folder(run) for run in runs]).groups
    found: list[Findings] = []
    if set(settings.what) != {"convergence"}:
        sets: dict[tuple[Any, ...], Any] = {}
        for group in groups:
            for run in group.runs:
                label = f"{group.label} seed {run.seed}" if len(group.runs) > 1 else group.label
                trained = opened.get(run.folder) or Run.open(run.folder, copy.deepcopy(net))
                found.append(measure(subject_of(trained, run, label, group.label, sets), settings, tell))
    followed = [curves(group) for group in groups] if "convergence" in settings.what else []
    for one in followed:
        if not one.values:
            raise UserError(
                f"the metrics.csv of {one.label} is missing or damaged, so there are no curves to show"
            )
    return Diagnosis(settings, tuple(found), tuple(followed))


def _folder(run: str | Path | Run) -> Path:
    if not isinstance(run, Run):
        return Path(run)
    if run.folder is None:
        raise UserError("a run that is kept nowhere has no curves to follow; train it with `out=...`")
    return run.folder
