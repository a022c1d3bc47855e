"""Columns of a comparison of several tasks: which metric of which output, and which way it is better."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from offramp.runs.output import Output
from offramp.runs.result import Result
from offramp.tasks.outputs import ARROWS, are_exits, heading

__all__ = ["METRICS", "Column", "Metrics", "columns_of", "has_tasks"]

Metrics = Literal["primary", "compared", "all"]
METRICS = ("primary", "compared", "all")


class Column(NamedTuple):
    """One metric of one output.

    Attributes:
        output: Name of the output.
        metric: Name of the metric.
        better: Whether a ``"higher"`` or a ``"lower"`` value is better; empty where that is not known.
    """

    output: str
    metric: str
    better: str

    @property
    def heading(self) -> str:
        """The output, and below it the metric with its unit and an arrow for the better direction."""
        return f"{self.output}\n{heading(self.metric)}{ARROWS[self.better]}"


def has_tasks(result: Result) -> bool:
    """Whether the outputs are tasks side by side, and not exits or others of one task."""
    return result.ensemble is None and (result.average is None or not are_exits(result.outputs))


def columns_of(result: Result, metrics: Metrics = "primary") -> list[Column]:
    """The columns of a result.

    Args:
        result: Any of the runs that are compared.
        metrics: Of each output ``primary``: the one that stands for it; ``compared``: those that Delta-m is
            the mean of; ``all``: whatever was measured.
    """

    def chosen(output: Output) -> Iterable[str]:
        if metrics == "primary":
            return [output.primary]
        return output.compared if metrics == "compared" else output.metrics

    return [
        Column(name, metric, output.direction(metric))
        for name, output in result.outputs.items()
        for metric in chosen(output)
    ]
