"""Run folders read, checked to be comparable, and sorted into groups that differ in their seed only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from offramp.errors import UserError
from offramp.reports.groups import Group
from offramp.reports.runs import RunRecord, read_run
from offramp.reports.search import pick_rate

__all__ = ["grouped"]

_NOT_THE_RECIPE = {"seed", "options", "checkpoint_every", "test_limit"}  # none of these trains differently


def grouped(
    folders: Sequence[str | Path], *, pick_lr: bool = False
) -> tuple[tuple[Group, ...], dict[str, Any]]:
    """Read run folders and group them by method, options and recipe, plain joint training first.

    Args:
        folders: Of finished runs.
        pick_lr: Of a method's runs at several learning rates take those at the best one.

    Returns:
        The groups; and the settings in which the recipes are not all alike, with the usual values.

    Raises:
        UserError: No folder, a folder that is no finished run, nets or data that differ, a run given
            twice, or no validation metrics to pick by.
    """
    if not folders:
        raise UserError("nothing to compare; give one or more run folders")
    runs = [read_run(folder) for folder in folders]
    for run in runs[1:]:
        _check_comparable(runs[0], run)
    differing = [key for key in _differing(runs) if not (pick_lr and key == "lr")]
    reference = next((run for run in runs if _plainness(run) == 0), runs[0]).recipe
    by_label: dict[str, list[RunRecord]] = {}
    for run in runs:
        deviations = [
            f"{key}={run.recipe.get(key)}" for key in differing if run.recipe.get(key) != reference.get(key)
        ]
        label = " ".join([run.method, *_own_options(run), *deviations])
        group = by_label.setdefault(label, [])
        _check_new(run, group)
        group.append(run)
    groups = []
    for label, members in by_label.items():
        chosen, rates = pick_rate(members) if pick_lr else (members, ())
        groups.append(Group(label, tuple(sorted(chosen, key=lambda run: run.seed)), rates))
    groups.sort(key=lambda group: _plainness(group.runs[0]))  # stable: only joint training moves
    return tuple(groups), {key: reference.get(key) for key in differing}


def _check_comparable(first: RunRecord, other: RunRecord) -> None:
    pairs = {
        "net": (first.net, other.net),
        "shape of the net's weights": (first.shapes, other.shapes),
        "data": (first.data, other.data),
        "test_limit": (first.recipe.get("test_limit"), other.recipe.get("test_limit")),
        "number of outputs": (len(first.result.outputs), len(other.result.outputs)),
        "metrics": (_metrics(first), _metrics(other)),
    }
    for aspect, (a, b) in pairs.items():
        if a != b:
            raise UserError(
                f"cannot compare {first.folder} with {other.folder}: the {aspect} differs ({a} and {b}); "
                "compare runs of one net on one data set"
            )


def _metrics(run: RunRecord) -> str:
    """The outputs, each with its metric and which way it is better."""
    outputs = run.result.outputs.items()
    return ", ".join(f"{name} {output.primary} ({output.better} is better)" for name, output in outputs)


def _check_new(run: RunRecord, group: Sequence[RunRecord]) -> None:
    for twin in group:
        if (twin.seed, twin.recipe.get("lr")) == (run.seed, run.recipe.get("lr")):
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
    defaults = run.default_method.options if run.default_method else {}
    return [
        f"{k}={v}" for k, v in run.options.items() if k not in defaults or _plain(defaults[k]) != _plain(v)
    ]


def _plainness(run: RunRecord) -> int:
    """0 for plain joint training, 1 for joint training with options of its own, 2 for the rest."""
    return 2 if run.method != "joint" else 1 if _own_options(run) else 0


def _plain(value: Any) -> Any:
    """Tuples as the lists that they are in JSON."""
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
