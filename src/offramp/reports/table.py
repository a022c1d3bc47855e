"""Plain text tables: aligned columns, nothing a log file could choke on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from offramp.runs.result import Result
from offramp.tasks.evaluation import Metrics
from offramp.tasks.outputs import are_exits, column, heading

__all__ = ["aligned", "count", "result_table", "signed"]


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A table with a rule under its header; the first ``left`` columns flush left, the others flush right."""
    table = [list(header), *map(list, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    return "\n".join([line(table[0]), "  ".join("-" * width for width in widths), *map(line, table[1:])])


def count(number: float | None) -> str:
    """A raw count to three digits: ``912``, ``45.6k``, ``1.23M``, ``15.4G``; ``unknown`` for None."""
    if number is None:
        return "unknown"
    units = ["", "k", "M", "G", "T"]
    while abs(number) >= 999.5 and len(units) > 1:
        number /= 1000
        units.pop(0)
    decimals = 0 if units[0] == "" or abs(number) >= 99.95 else 1 if abs(number) >= 9.995 else 2
    return f"{number:.{decimals}f}{units[0]}"


def signed(number: float, decimals: int = 2) -> str:
    """A number with its sign, ``-0.05`` or ``+1.30``; one that is rounded to zero has none: ``0.00``."""
    text = f"{number:+.{decimals}f}"
    return text if float(text) else text[1:]


def result_table(result: Result) -> str:
    """One run's final evaluation, an output a row: params, FLOPs and metrics.

    Where a moving average of the weights was kept, its metrics stand beside.
    """
    names = list(dict.fromkeys(metric for output in result.outputs.values() for metric in output.metrics))
    header = ["exit" if are_exits(result.outputs) else "output", "params", "FLOPs", *map(heading, names)]
    rows = [
        [column(name), count(output.params), count(output.flops), *_cells(output.metrics, names)]
        for name, output in result.outputs.items()
    ]
    rows += [[name, "", "", *_cells(values, names)] for name, values in _joint(result.metrics)]
    if result.averaged:  # beside the weights themselves
        header += [f"averaged {heading(name)}" for name in names]
        cells = [_cells(values, names) for values in result.averaged.outputs.values()]
        cells += [_cells(values, names) for _, values in _joint(result.averaged)]
        rows = [row + more for row, more in zip(rows, cells, strict=True)]
    return aligned(header, rows)


def _joint(found: Metrics) -> list[tuple[str, Mapping[str, float]]]:
    """The average of the outputs and their ensemble by the primary metric, if they have one task."""
    if found.ensemble is None:
        return []
    metric = next(iter(found.ensemble))
    average = fmean(values[metric] for values in found.outputs.values())
    return [("average", {metric: average}), ("ensemble", {metric: found.ensemble[metric]})]


def _cells(values: Mapping[str, float], names: Sequence[str]) -> list[str]:
    return [f"{values[name]:.2f}" if name in values else "" for name in names]
