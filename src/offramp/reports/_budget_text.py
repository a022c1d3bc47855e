"""Curves of accuracy against a budget as text: a table for each method."""

from __future__ import annotations

from collections.abc import Sequence

from offramp.papers.published import Curve
from offramp.reports.budget_groups import BudgetGroup, MeanPoint
from offramp.text_table import aligned, count

__all__ = ["ALL_HEADS", "EXECUTED", "budget_text"]

ALL_HEADS, EXECUTED = "FLOPs, all heads", "FLOPs, executed"

EXPLAINED = """\
p = 1 ... 40: samples leave at the first exit that is sure enough, by thresholds fitted on validation samples;
    the shares that shall leave grow by p / 20 from exit to exit (Huang et al., 2018)
exit k: all samples leave there; oracle: each leaves at the first exit that is right
static: the network without inner heads
all heads: as published, the stages up to where a sample leaves, and the heads of all exits up to there
executed: as the router runs them, without the heads of exits at which no sample can leave"""
BEST = "\nbest: the thresholds that `offramp calibrate` finds for what p takes on the validation samples"


def budget_text(
    title: str, groups: Sequence[BudgetGroup], notes: Sequence[str], published: tuple[str, Curve] | None
) -> str:
    """How costs are counted, the curve of each method, the published ones, and the notes."""
    parts = [
        f"{title}: top-1 in percent on the test samples against mean FLOPs per sample",
        f"{EXPLAINED}{BEST if groups[0].best else ''}\nFLOPs are counted as {groups[0].curves[0].convention}",
        *map(_group, groups),
    ]
    if published is not None:
        parts.append(_published(*published))
    if notes:
        parts.append("\n".join(f"note: {note}" for note in notes))
    return "\n\n".join(parts)


def _group(group: BudgetGroup) -> str:
    seeds = ", ".join(map(str, group.group.seeds))
    header = [group.label, ALL_HEADS, EXECUTED, "top-1 %"]
    rows = [[f"p = {p}", *_cells(point)] for p, point in enumerate(group.published, 1)]
    if group.best:
        header += ["best: executed", "top-1 %"]
        rows = [[*row, *_cells(point)[1:]] for row, point in zip(rows, group.best, strict=True)]
    others = {f"exit {k}": point for k, point in enumerate(group.exits, 1)}
    others |= {"oracle": group.oracle, "static": group.static}
    rows += [[name, *_cells(point), *[""] * (len(header) - 4)] for name, point in others.items()]
    return f"{'seed' if len(group.group.seeds) == 1 else 'seeds'} {seeds}\n{aligned(header, rows)}"


def _cells(point: MeanPoint) -> list[str]:
    return [count(point.flops.mean), count(point.executed.mean), str(point.top1)]


def _published(name: str, curve: Curve) -> str:
    methods = [*curve.points]
    rows = [
        [f"p = {p}", *(f"{count(flops * curve.flops_unit)}  {top1:.2f}" for flops, top1 in points)]
        for p, points in enumerate(zip(*curve.points.values(), strict=True), 1)
    ]
    table = aligned([ALL_HEADS, *(f"{method} (published)" for method in methods)], rows)
    title = (
        f"published: {curve.source}; {curve.net} on {curve.data}, under recipes of its own, not measured here"
    )
    return f"{title}; {curve.remark}\n{table}"
