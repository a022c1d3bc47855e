"""The table of one run: cost and metrics of each output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from offramp.runs._task_table import task_table
from offramp.runs.result import Result
from offramp.tasks.evaluation import Metrics
from offramp.tasks.outputs import are_exits, column, heading
from offramp.text_table import aligned, count

__all__ = ["result_table"]

MANY = 4  # metrics, beyond which they stand below each other


def result_table(result: Result) -> str:
    """One run's final evaluation: params, FLOPs and metrics, an output a row.

    Outputs with metrics of their own, or with many, have a row for each of these. Where a moving average of
    the weights was kept, its metrics stand beside.
    """
    names = list(dict.fromkeys(metric for output in result.outputs.values() for metric in output.metrics))
    if len(names) > MANY or any([*output.metrics] != names for output in result.outputs.values()):
        return task_table(result)
    header = ["exit" if are_exits(result.outputs) else "output", "params", "FLOPs", *map(heading, names)]
    rows = [
        [column(name), count(output.params), count(output.flops), *_cells(output.metrics, names)]
        for name, output in result.outputs.items()
    ]
    rows += [[name, "", "", *_cells(values, names)] for name, values in _summary_rows(result.metrics)]
    if result.averaged:  # beside the weights themselves
        header += [f"averaged {heading(name)}" for name in names]
        cells = [_cells(values, names) for values in result.averaged.outputs.values()]
        cells += [_cells(values, names) for _, values in _summary_rows(result.averaged)]
        rows = [row + more for row, more in zip(rows, cells, strict=True)]
    return aligned(header, rows)


def _summary_rows(metrics: Metrics) -> list[tuple[str, Mapping[str, float]]]:
    """The average of the outputs and their ensemble by the primary metric, if they have one task."""
    if metrics.ensemble is None:
        return []
    metric = next(iter(metrics.ensemble))
    average = fmean(values[metric] for values in metrics.outputs.values())
    return [("average", {metric: average}), ("ensemble", {metric: metrics.ensemble[metric]})]


def _cells(values: Mapping[str, float], names: Sequence[str]) -> list[str]:
    return [f"{values[name]:.2f}" if name in values else "" for name in names]
