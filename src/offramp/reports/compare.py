"""Which runs may be compared, and which of them are the same method with another seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from offramp.errors import UserError
from offramp.methods import METHODS
from offramp.reports.groups import Comparison, Group
from offramp.reports.runs import RunRecord, read_run

__all__ = ["compare"]

_NOT_THE_RECIPE = {"seed", "options", "checkpoint_every", "test_limit"}  # none of these trains differently


def compare(folders: Sequence[str | Path]) -> Comparison:
    """Read run folders and group them by method, options and recipe.

    The group of the first run is the baseline. Runs whose recipes differ are compared all the same, with
    a note that says in what; runs of different nets or data are not.

    Raises:
        UserError: No folder, a folder that is no finished run, nets or data that differ, a run given twice.
    """
    if not folders:
        raise UserError("nothing to compare; give one or more run folders")
    runs = [read_run(folder) for folder in folders]
    for run in runs[1:]:
        _check_comparable(runs[0], run)
    differing = _differing(runs)
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        label = " ".join([run.method, *_own_options(run), *(f"{k}={run.recipe.get(k)}" for k in differing)])
        group = groups.setdefault(label, [])
        _check_new(run, group)
        group.append(run)
    ordered = tuple(Group(label, tuple(sorted(g, key=lambda run: run.seed))) for label, g in groups.items())
    return Comparison(ordered, tuple(_notes(ordered, differing)))


def _check_comparable(first: RunRecord, other: RunRecord) -> None:
    pairs = {
        "net": (first.net, other.net),
        "data": (first.data, other.data),
        "test_limit": (first.recipe.get("test_limit"), other.recipe.get("test_limit")),
        "number of exits": (len(first.result["exits"]), len(other.result["exits"])),
    }
    for what, (a, b) in pairs.items():
        if a != b:
            raise UserError(
                f"cannot compare {first.folder} with {other.folder}: the {what} differs ({a} and {b}); "
                "compare runs of one net on one data set"
            )


def _check_new(run: RunRecord, group: Sequence[RunRecord]) -> None:
    for twin in group:
        if twin.seed == run.seed:
            raise UserError(
                f"{twin.folder} and {run.folder} are the same method, recipe and seed ({run.seed}), "
                "which is one run and not two; leave one of them out"
            )


def _differing(runs: Sequence[RunRecord]) -> list[str]:
    """The recipe's settings in which the runs are not all alike."""
    keys = [key for key in runs[0].recipe if key not in _NOT_THE_RECIPE]
    return [key for key in keys if any(run.recipe.get(key) != runs[0].recipe[key] for run in runs)]


def _own_options(run: RunRecord) -> list[str]:
    """The options that are not the method's defaults, as ``key=value``."""
    defaults = METHODS[run.method].options if run.method in METHODS else {}
    return [
        f"{k}={v}" for k, v in run.options.items() if k not in defaults or _plain(defaults[k]) != _plain(v)
    ]


def _plain(value: Any) -> Any:
    """Tuples as the lists that they are in JSON."""
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _notes(groups: Sequence[Group], differing: Sequence[str]) -> list[str]:
    notes = []
    if differing:
        notes.append(f"the recipes differ in {', '.join(differing)}: this compares more than methods")
    if any(len(set(group.seeds) & set(groups[0].seeds)) == 1 for group in groups[1:]):
        notes.append("one common seed gives no interval; train each method with the same two or more seeds")
    return notes
