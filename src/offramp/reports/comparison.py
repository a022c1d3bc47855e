"""Runs of one net on one data set side by side; those of a method that differ in their seed are a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from offramp.errors import UserError
from offramp.papers.catalogue import published_table
from offramp.reports._document import comparison_document
from offramp.reports._notes import notes
from offramp.reports._published import PublishedRows, published_rows
from offramp.reports._text import comparison_text, headings
from offramp.reports.groups import Group
from offramp.reports.runs import RunRecord, read_run
from offramp.reports.search import pick_rate
from offramp.runs.result import Result
from offramp.tasks.outputs import heading

__all__ = ["Comparison", "compare"]

_NOT_THE_RECIPE = {"seed", "options", "checkpoint_every", "test_limit"}  # none of these trains differently


@dataclass(frozen=True)
class Comparison:
    """Groups of runs of one net on one data set; the first group is the baseline.

    Attributes:
        groups: The baseline, then the others in the order in which their runs were given.
        notes: Remarks to read beside the numbers.
        published: The rows of a published table to show beside the measured ones, if asked for.
    """

    groups: tuple[Group, ...]
    notes: tuple[str, ...]
    published: PublishedRows | None = None

    @property
    def title(self) -> str:
        """The net and the data."""
        return f"{self.groups[0].runs[0].net} on {self.groups[0].runs[0].data}"

    @property
    def result(self) -> Result:
        """One of the baseline's results: the outputs, their metrics and directions are those of all runs."""
        return self.groups[0].runs[0].result

    @property
    def columns(self) -> list[str]:
        """Headings of the scores: exits from 1, average, ensemble; or the outputs with their metrics."""
        return [*headings(self.result).values()]

    def table(self) -> str:
        """Scores, paired differences to the first group, and what the training cost."""
        return comparison_text(self.title, self.groups, self.notes, self.published)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain values: the runs' results, the groups' spreads, the paired differences."""
        return comparison_document(self.groups, self.notes, self.published)


def compare(
    folders: Sequence[str | Path], *, pick_lr: bool = False, published: str | None = None
) -> Comparison:
    """Read run folders and group them by method, options and recipe.

    The baseline is plain joint training, or without it the group of the first run. Runs whose recipes differ
    are compared all the same: labels name what is not as in the baseline, and a note says so. Runs of
    different nets or data are not.

    Args:
        folders: Of finished runs.
        pick_lr: Runs of a method that differ in their learning rate are a search: those at the rate of the
            best validation metrics stand for the method, and the cost of all of them is shown.
        published: A published table to show beside, a key of :data:`offramp.papers.catalogue.TABLES`.

    Raises:
        UserError: No folder, no such table, a folder that is no finished run, nets or data that differ, a run
            given twice, or no validation metrics to pick by.
    """
    if published is not None:
        published_table(published)  # a wrong name is told before any run is read
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
    comparison = Comparison(
        tuple(groups), tuple(notes(groups, {key: reference.get(key) for key in differing}))
    )
    if published is None:
        return comparison
    columns = comparison.columns if comparison.result.classifies_at_exits else []  # the tables' own metric
    outputs = comparison.result.outputs.items()
    others = ", ".join(f"{name} ({heading(output.primary)})" for name, output in outputs)
    return replace(comparison, published=published_rows(published, columns, others))


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
