"""The accuracy of DFS at each exit by its share beta, divided by the best (its Fig 5, left)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from offramp.papers.catalogue import TABLES
from offramp.papers.published import Table
from offramp.reports import compare
from offramp.reports.canvas import canvas
from offramp.reports.plot_lines import COLOURS, MARKERS
from offramp.reproduce.experiment import Report
from offramp.reproduce.planning import Plan
from offramp.sweeps import SweepResult
from offramp.text_table import aligned

__all__ = ["beta_report"]

Lines = Mapping[float, list[float]]  # beta -> a number for each exit


def beta_report(plan: Plan, outcome: SweepResult) -> Report:
    """Every exit's accuracy over beta, divided by the best of them; with the published ones of Table 4."""
    groups = compare(outcome.finished).groups
    by_folder = {run.folder: group for group in groups for run in group.runs}
    ours: dict[float, list[float]] = {}
    for row, entry in zip(plan.rows, plan.sweep.entries, strict=True):
        for folder in outcome.folders[entry.label][:1]:
            group = by_folder[folder]
            exits = group.runs[0].result.outputs
            ours[row.settings["beta"]] = [group.scores[name].mean for name in exits]
    table = TABLES[plan.experiment.runs]
    assert isinstance(table, Table)
    published = {row.settings["beta"]: [*table.top1[row.label]] for row in plan.rows}
    shares = {"ours": _of_best(ours), "published": _of_best(published)}
    picture = plan.folder / "beta.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    _draw(picture, shares["ours"], shares["published"])
    rows = [
        [f"beta {beta:g}{'' if name == 'ours' else ' (published)'}", *(f"{share:.3f}" for share in line)]
        for name, lines in shares.items()
        for beta, line in lines.items()
    ]
    columns = ["", *(f"exit {number}" for number in range(1, 1 + max(map(len, ours.values()))))]
    text = f"accuracy of each exit, divided by that of the best beta\n{aligned(columns, rows)}"
    document = {
        "top1": {"ours": _plain(ours), "published": _plain(published)},
        "share_of_best": {name: _plain(lines) for name, lines in shares.items()},
        "picture": str(picture),
    }
    return Report(document, f"{text}\n\npicture: {picture}")


def _of_best(lines: Lines) -> dict[float, list[float]]:
    """Each number divided by the largest of its exit."""
    best = [max(column) for column in zip(*lines.values(), strict=True)]
    return {
        beta: [value / most if most else 0.0 for value, most in zip(line, best, strict=True)]
        for beta, line in lines.items()
    }


def _plain(lines: Lines) -> dict[str, list[float]]:
    return {f"{beta:g}": line for beta, line in lines.items()}


def _draw(path: Path, ours: Lines, published: Lines) -> None:
    with canvas(path, 8.5, 4.8) as figure:
        axes = figure.subplots()
        for number, beta in enumerate(sorted({*ours, *published})):
            style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
            if beta in ours:
                line = ours[beta]
                axes.plot(range(1, len(line) + 1), line, label=f"beta {beta:g}", **style)
            if beta in published:
                line = published[beta]
                label = f"beta {beta:g} (published)"
                axes.plot(range(1, len(line) + 1), line, ":", label=label, alpha=0.6, **style)
        axes.set_xlabel("exit")
        axes.set_ylabel("top-1, divided by that of the best beta")
        axes.grid(axis="y", color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
        figure.legend(loc="outside right center", fontsize=9, frameon=False)
