"""The conflict between the outputs, as a diagnosis has measured it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from offramp.reports.html._charts import categories, keys_of, quantity, scale_of, spec
from offramp.reports.html._parts import Cell, Chart, Legend, Note, Section, Table
from offramp.tasks.outputs import are_exits, column
from offramp.text_table import four_digits, signed

__all__ = ["conflict_section"]

LEAD = (
    "Outputs share weights, and what helps one may harm another. Conflict C is how much of an output's "
    "gradient the others oppose, 0 where none does; gain G is what a step for all of them adds to its own "
    "step, below 0 where they harm it."
)


def conflict_section(runs: Sequence[Mapping[str, Any]], outputs: Sequence[str], batches: int) -> Section:
    """C and G of every output, and of tasks the cosines of their gradients.

    Args:
        runs: Of the plain values of a diagnosis.
        outputs: Names of the outputs.
        batches: Over how many training batches.
    """
    measured = [run for run in runs if run.get("conflict") is not None]
    if not measured:
        return Section("conflict", "Conflict", LEAD, [Note("nothing was measured")])
    keys = keys_of([str(run["label"]) for run in measured])
    panels = [
        (title, _dots(measured, outputs, field, keys))
        for title, field in (("conflict C", "mean_conflict"), ("gain G", "mean_gain"))
    ]
    shows = (
        f"Mean over {batches} training batches of the first seed of each method, with the trained weights."
    )
    rows: list[list[Cell | str]] = []
    for run, key in zip(measured, keys, strict=True):
        found = run["conflict"]
        rows.append(
            [
                Cell(key.label, "", key.colour),
                _correlation(found["r"]),
                *(_pair(output["mean_conflict"], output["mean_gain"]) for output in found["exits"]),
            ]
        )
    table = Table(
        "C / G by output", ["method", "r", *outputs], rows,
        "r: correlation of C and G over the batches, negative where conflict costs gain.",
    )  # fmt: skip
    legend = [Legend(keys)] if len(keys) > 1 else []
    cosines = [_cosines(run, outputs) for run in measured if run.get("cosines")]
    return Section(
        "conflict", "Conflict", LEAD, [*legend, Chart("By output", panels, shows), table, *cosines]
    )


def _dots(runs: Sequence[Mapping[str, Any]], outputs: Sequence[str], field: str, keys: Any) -> dict[str, Any]:
    values = [
        {"of": str(run["label"]), "x": column(name), "y": found[field]}
        for run in runs
        for name, found in zip(outputs, run["conflict"]["exits"], strict=True)
        if found[field] is not None
    ]
    names = [column(name) for name in outputs]
    x = categories("x", names, "exit" if are_exits(outputs) else None)
    shared = {
        "x": x,
        "y": quantity("y", None, zero=True),
        "color": scale_of(keys),
        "tooltip": [{"field": "of", "title": " "}, {"field": "x", "title": "at"},
                    {"field": "y", "title": "mean", "format": ".4~g"}],
    }  # fmt: skip
    layer = [
        {"mark": {"type": "line", "opacity": 0.5, "strokeWidth": 1.5}},
        {"mark": {"type": "point", "filled": True, "size": 60, "opacity": 1}},
    ]
    return spec(values, 200, layer=layer, encoding=shared)


def _pair(conflict: float | None, gain: float | None) -> str:
    if conflict is None or gain is None:
        return "–"
    return f"{conflict:.{four_digits(conflict) - 1}f} / {signed(gain)}"


def _correlation(value: float | None) -> str:
    return "–" if value is None else signed(value)


def _cosines(run: Mapping[str, Any], outputs: Sequence[str]) -> Table:
    rows = [
        [name, *("" if a == b else _correlation(value) for b, value in enumerate(row))]
        for a, (name, row) in enumerate(zip(outputs, run["cosines"]["mean"], strict=True))
    ]
    shows = "Mean over the batches, on the weights that both share; below 0 they conflict."
    return Table(f"Cosine of the gradients, {run['label']}", ["output", *outputs], rows, shows)
