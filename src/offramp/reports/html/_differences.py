"""Paired differences to the first method: a table, and a picture of their intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from offramp.reports.columns import has_tasks
from offramp.reports.groups import Group
from offramp.reports.html._charts import categories, keys_of, quantity, rings_of, scale_of, spec
from offramp.reports.html._parts import Cell, Chart, Legend, Table, named, with_aside
from offramp.reports.html._score import Score
from offramp.reports.paired import Difference
from offramp.tasks.outputs import column, heading

__all__ = ["difference_parts"]


def difference_parts(groups: Sequence[Group], scores: Sequence[Score]) -> Iterator[Any]:
    """A table of the paired differences, and a picture of them where they are of one unit."""
    baseline, *others = groups
    keys = keys_of([group.label for group in groups])[1:]
    rows: list[list[Cell | str]] = []
    values = []
    for group, key in zip(others, keys, strict=True):
        found = [score.against(group) for score in scores]
        cells = [_difference(each, score) for each, score in zip(found, scores, strict=True)]
        if not any(found):
            cells[0] = Cell("no common seed", "quiet")
        rows.append([named(key), *cells])
        values += [
            {"of": group.label, "x": column(score.title), "y": each.mean, "low": each.low, "high": each.high}
            for each, score in zip(found, scores, strict=True)
            if each is not None
        ]
    shows = (
        f"Paired by seed, ± half of the 95 % interval (Student's t); a star marks an interval of three or "
        f"more seeds that leaves out 0, ▲ for the better and ▼ for the worse than {baseline.label}."
    )
    header = ["method", *(score.title for score in scores)]
    yield Table(f"Difference to {baseline.label}", header, rows, shows)
    primaries = {output.primary for output in baseline.runs[0].result.outputs.values()}
    if values and len(primaries) == 1 and not has_tasks(baseline.runs[0].result):
        order = [column(score.title) for score in scores]
        yield Legend(keys)
        shows = f"Dots: mean difference; bars: its 95 % interval; the line at 0 is {baseline.label}."
        picture = _intervals(values, order, keys, max(score.places for score in scores))
        yield Chart(f"Difference to {baseline.label}, {heading(primaries.pop())}", [("", picture)], shows)


def _difference(found: Difference | None, score: Score) -> Cell:
    if found is None:
        return Cell("")
    text = found.text(score.places)
    if not found.decided:
        return with_aside(text)
    gain = (found.mean > 0) == (score.better == "higher")
    return with_aside(f"{'▲' if gain else '▼'} {text}", "better" if gain else "worse")


def _intervals(
    values: Sequence[Any], order: Sequence[str], keys: Sequence[Any], places: int
) -> dict[str, Any]:
    """Dots with their intervals, beside each other at each score."""
    x = categories("x", order, "exit" if all(name.isdecimal() for name in order[:1]) else None)
    beside = {"field": "of", "type": "nominal", "sort": [key.label for key in keys]}
    y = quantity("y", None, padding=8)
    tooltip = [{"field": "of", "title": " "}, {"field": "x", "title": "at"}, *(
        {"field": name, "title": title, "format": f"+.{places}f"}
        for name, title in (("y", "difference"), ("low", "from"), ("high", "to"))
    )]  # fmt: skip
    layer: list[dict[str, Any]] = [
        {"mark": "rule", "data": {"values": [{}]}, "encoding": {"y": {"datum": 0}}},
        {"mark": {"type": "point", "size": 50, "opacity": 1},
         "encoding": {"x": x, "xOffset": beside, "y": y, "color": scale_of(keys), "fill": rings_of(keys),
                      "tooltip": tooltip}},
    ]  # fmt: skip
    if known := [value for value in values if value["low"] is not None]:
        interval = {"x": x, "xOffset": beside, "y": {"field": "low", "type": "quantitative", "title": None},
                    "y2": {"field": "high"}, "color": scale_of(keys)}  # fmt: skip
        bars = {"data": {"values": known}, "mark": {"type": "rule", "strokeWidth": 2}, "encoding": interval}
        layer.insert(1, bars)
    return spec(values, 220, layer=layer)
