"""The conflict between the outputs, as a diagnosis has measured it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from offramp.errors import UserError
from offramp.reports.comparison import Comparison
from offramp.reports.html._charts import categories, dashes_of, keys_of, quantity, rings_of, scale_of, spec
from offramp.reports.html._parts import Cell, Chart, Key, Legend, Section, Table, named, refusals
from offramp.tasks.outputs import are_exits, column
from offramp.text_table import four_digits, signed

__all__ = ["Diagnose", "conflict_section"]

Diagnose = Callable[[Sequence[Path]], Mapping[str, Any]]
Measured = Sequence[tuple[Key, Mapping[str, Any]]]

LEAD = (
    "Outputs share weights, and what helps one may harm another. Conflict C is how much of an output's "
    "gradient the others oppose, 0 where none does; gain G is what a step for all of them adds to its own "
    "step, below 0 where they harm it."
)


def conflict_section(comparison: Comparison, diagnose: Diagnose) -> Section:
    """C and G of every output, and of tasks the cosines of their gradients; of the first run of each method.

    Args:
        comparison: The runs. A method whose outputs share nothing is told in a line.
        diagnose: Gives the plain values of a diagnosis for the folders of runs.
    """
    keys = {key.label: key for key in keys_of([group.label for group in comparison.groups])}
    found = _diagnosed({group.label: group.runs[0].folder for group in comparison.groups}, diagnose)
    measured = [(keys[label], run) for label, run in found.items() if not isinstance(run, UserError)]
    refused = {label: str(run) for label, run in found.items() if isinstance(run, UserError)}
    parts = _parts(measured, [*comparison.result.outputs]) if measured else []
    return Section("conflict", "Conflict", LEAD, [*parts, *refusals(refused, len(keys))])


def _diagnosed(folders: Mapping[str, Path], diagnose: Diagnose) -> dict[str, Mapping[str, Any] | UserError]:
    """What is found of each run, by label: of all together, and one by one where some run is refused."""
    try:
        runs = {run["folder"]: run for run in diagnose([*folders.values()])["runs"]}
        return {label: runs[str(folder)] for label, folder in folders.items()}
    except UserError as error:
        if len(folders) == 1:
            return dict.fromkeys(folders, error)
        return {
            label: run
            for of, folder in folders.items()
            for label, run in _diagnosed({of: folder}, diagnose).items()
        }


def _parts(measured: Measured, outputs: Sequence[str]) -> Iterator[Any]:
    keys = [key for key, _ in measured]
    if len(keys) > 1:
        yield Legend(keys)
    panels = [
        ("conflict C", _dots(measured, outputs, "mean_conflict")),
        ("gain G", _dots(measured, outputs, "mean_gain")),
    ]
    first = measured[0][1]["conflict"]["exits"][0]
    batches = len(first["conflict"]) + first["left_out"]
    shows = (
        f"Mean over {batches} training batches, for the first seed of each method and its trained weights."
    )
    yield Chart("By output", panels, shows)
    rows: list[list[Cell | str]] = [
        [
            named(key),
            _correlation(run["conflict"]["r"]),
            *(_pair(output["mean_conflict"], output["mean_gain"]) for output in run["conflict"]["exits"]),
        ]
        for key, run in measured
    ]
    yield Table(
        "C / G by output",
        ["method", "r", *outputs],
        rows,
        "r: correlation of C and G over the batches, negative where conflict costs gain; – where none tells.",
    )
    yield from (_cosines(key.label, run, outputs) for key, run in measured if run.get("cosines"))


def _dots(measured: Measured, outputs: Sequence[str], field: str) -> dict[str, Any]:
    values = [
        {"of": key.label, "x": column(name), "y": found[field]}
        for key, run in measured
        for name, found in zip(outputs, run["conflict"]["exits"], strict=True)
        if found[field] is not None
    ]
    names, keys = [column(name) for name in outputs], [key for key, _ in measured]
    x = categories("x", names, "exit" if are_exits(outputs) else None)
    shared = {
        "x": x,
        "y": quantity("y", None, zero=True),
        "color": scale_of(keys),
        "tooltip": [{"field": "of", "title": " "}, {"field": "x", "title": "at"},
                    {"field": "y", "title": "mean", "format": ".4~g"}],
    }  # fmt: skip
    layer = [
        {"mark": {"type": "line", "opacity": 0.5, "strokeWidth": 1.5},
         "encoding": {"strokeDash": dashes_of(keys)}},
        {"mark": {"type": "point", "size": 60, "opacity": 1}, "encoding": {"fill": rings_of(keys)}},
    ]  # fmt: skip
    return spec(values, 200, layer=layer, encoding=shared)


def _pair(conflict: float | None, gain: float | None) -> str:
    if conflict is None or gain is None:
        return "–"
    return f"{conflict:.{four_digits(conflict) - 1}f} / {signed(gain)}"


def _correlation(value: float | None) -> str:
    return "–" if value is None else signed(value)


def _cosines(label: str, run: Mapping[str, Any], outputs: Sequence[str]) -> Table:
    rows = [
        [name, *("" if a == b else _correlation(value) for b, value in enumerate(row))]
        for a, (name, row) in enumerate(zip(outputs, run["cosines"]["mean"], strict=True))
    ]
    shows = "Mean over the batches, on the weights that both share; below 0 they conflict."
    return Table(f"Cosine of the gradients, {label}", ["output", *outputs], rows, shows)
