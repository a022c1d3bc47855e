"""What a report says of runs: finished ones in full, those in training as far as their folders tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from offramp.nets import Net
from offramp.reports.html._conflict import Diagnose, conflict_section
from offramp.reports.html._curves import curves_section
from offramp.reports.html._leaving import leaving_sections
from offramp.reports.html._library import check_packages
from offramp.reports.html._page import Page, page
from offramp.reports.html._runs import Runs, read_runs
from offramp.reports.html._scores import scores_section
from offramp.reports.html._stages import stages_section

__all__ = ["report", "report_of_training"]

RELOAD = 30  # seconds after which a browser looks for a newer page of a run in training


def report(
    folders: Sequence[str | Path],
    *,
    net: Net | None = None,
    quick: bool = False,
    times: bool = True,
    diagnose: Diagnose | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> str:
    """A page about runs of one net on one data set.

    Equal runs give equal pages, byte for byte, but for the measured times. A chapter for which something is
    missing, such as the data, says in a line what.

    Args:
        folders: Run folders, finished or not.
        net: One like those that were trained, to be copied for the weights of each folder; needed if
            ``offramp.nets`` has not built them.
        quick: Only what the folders hold: no net runs, and nothing is measured.
        times: Measure the time of each way through the net, on this machine.
        diagnose: Gives the plain values of :func:`offramp.analysis.diagnose` for folders of finished runs;
            None leaves the conflict out.
        tell: Receives a line before each run that is measured.

    Raises:
        UserError: A package is missing, no folder, one that is no run or is damaged, or runs that cannot be
            compared.
    """
    check_packages()
    runs = read_runs(folders)
    sections = [scores_section(runs), curves_section(runs)]
    if runs.comparison is not None and not quick:
        sections += leaving_sections(runs.comparison, net, times=times, tell=tell)
        if diagnose is not None:
            sections.append(conflict_section(runs.comparison, diagnose))
        sections.append(stages_section(runs.comparison, net))
    return page(Page(runs.title, _facts(runs), sections))


def report_of_training(folder: str | Path) -> str:
    """A page about a run in training, which a browser reloads by itself: its curves so far.

    Raises:
        UserError: As :func:`report`.
    """
    runs = read_runs([folder])
    return page(Page(runs.title, _facts(runs), [curves_section(runs), scores_section(runs)], RELOAD))


def _facts(runs: Runs) -> list[tuple[str, str]]:
    """Name and value of what is told at the head of the page."""
    data = runs.records[0]["data"]
    groups = () if runs.comparison is None else runs.comparison.groups
    methods = dict.fromkeys(
        [*(group.runs[0].method for group in groups), *(str(record["method"]) for record in runs.records)]
    )
    count = len(runs.records)
    facts = [
        (
            "runs",
            f"{count - len(runs.unfinished)} finished"
            + (f", {n} not" if (n := len(runs.unfinished)) else ""),
        ),
        ("methods", ", ".join(methods)),
        ("samples", f"{data['train']:,} to train on, {data['val']:,} to validate" if "train" in data else ""),
        ("epochs", " or ".join(dict.fromkeys(str(record["recipe"]["epochs"]) for record in runs.records))),
    ]
    return [(name, value) for name, value in facts if value]
