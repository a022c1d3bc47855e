"""What each stage and each head costs."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from offramp.counting import Cost, cost
from offramp.errors import UserError
from offramp.nets import Net
from offramp.reports.comparison import Comparison
from offramp.reports.groups import costs_once
from offramp.reports.html._charts import spec
from offramp.reports.html._parts import Chart, Key, Legend, Note, Section, Table
from offramp.runs import Run
from offramp.tasks.outputs import column
from offramp.text_table import count

__all__ = ["stages_section"]

PARTS = {"stage": "var(--series-0)", "head": "var(--series-1)"}


def stages_section(comparison: Comparison, net: Net | None) -> Section:
    """Operations of every stage and head, one net after the other where they differ.

    Args:
        comparison: The runs.
        net: One like those that were trained, to be copied for the weights of each folder; needed if
            ``offramp.nets`` has not built them.
    """
    parts: list[Any] = []
    for of, group in costs_once(comparison.groups):
        try:
            run = Run.open(group.runs[0].folder, copy.deepcopy(net))
        except UserError as error:
            parts.append(Note(f"{group.label}: the net cannot be opened, {error}"))
            continue
        parts += _of_net(of, cost(run.net), [*run.net.outputs])
    lead = "Where the operations of a sample go: through the stages, and through the head of each output."
    return Section("cost", "Cost of each stage", lead, parts)


def _of_net(of: str, counted: Cost, outputs: list[str]) -> Iterator[Any]:
    names = [*map(column, outputs)]
    per_stage = len(counted.heads) // len(counted.stages) if counted.stages else 0
    stages = [str(k) for k in range(1, len(counted.stages) + 1)]
    if stages:
        yield Legend([Key(name, colour) for name, colour in PARTS.items()], bars=True)
        values = [
            {"at": stage, "part": "stage", "y": value}
            for stage, value in zip(stages, counted.stages, strict=True)
        ]
        values += [
            {"at": stages[k // per_stage], "part": "head", "of": names[k], "y": value}
            for k, value in enumerate(counted.heads)
        ]
        shows = f"Of one sample, counted as {counted.convention}; a bar has the heads on that stage, too."
        yield Chart(f"Operations by stage{of}", [("", _bars(values, stages))], shows)
    whole = counted.flops
    rows = []
    for k, (name, each) in enumerate(zip(outputs, counted.exits, strict=True)):
        stage = counted.stages[k // per_stage] if per_stage and k % per_stage == 0 else None
        head = counted.heads[k] if per_stage else None
        rows.append(
            [
                name,
                "" if stage is None else count(stage),
                "" if head is None else count(head),
                count(each.flops),
                "" if not whole or each.flops is None else f"{100 * each.flops / whole:.1f}",
                count(each.params),
            ]
        )
    header = ["output", "its stage", "its head", "up to here", "of a whole\npass %", "parameters\nup to here"]
    shows = (
        f"The whole net has {count(counted.params)} parameters; a whole pass takes {count(whole)} operations."
    )
    yield Table(f"Operations and parameters{of}", header, rows, shows)
    yield from (Note(f"unknown: {reason}") for reason in counted.unknown)


def _bars(values: list[dict[str, Any]], stages: list[str]) -> dict[str, Any]:
    colour = {
        "field": "part", "type": "nominal", "legend": None,
        "scale": {"domain": [*PARTS], "range": [*PARTS.values()]},
    }  # fmt: skip
    encoding = {
        "x": {"field": "at", "type": "nominal", "title": "stage", "sort": stages, "axis": {"labelAngle": 0}},
        "y": {"field": "y", "type": "quantitative", "title": None, "axis": {"format": "~s"}},
        "color": colour,
        "order": {"field": "part", "type": "nominal", "sort": "descending"},
        "tooltip": [{"field": "at", "title": "stage"}, {"field": "part"}, {"field": "of", "title": "output"},
                    {"field": "y", "title": "operations", "format": ".3~s"}],
    }  # fmt: skip
    return spec(values, 200, mark={"type": "bar", "width": {"band": 0.7}}, encoding=encoding)
