"""The table of one run whose outputs have metrics of their own: a metric a row."""

from __future__ import annotations

from collections.abc import Mapping

from offramp.runs.output import Output
from offramp.runs.result import Result
from offramp.tasks.outputs import ARROWS, decimals, heading, plain
from offramp.text_table import aligned, count

__all__ = ["task_table"]

_VARIANTS = {"": "value", "image_": "mean of images", "pixel_": "all pixels"}


def task_table(result: Result) -> str:
    """A row for each metric of each output, with an arrow for the better direction.

    Where metrics are averaged in other ways too, over images or over all pixels, these stand beside; so do
    the mean of the last epochs and the moving average of the weights, where a run has them.
    """
    outputs = result.outputs.items()
    sources: dict[str, Mapping[str, Mapping[str, float]]] = {}
    for prefix, words in _VARIANTS.items():
        found = {name: _variant(output, prefix) for name, output in outputs}
        if any(found.values()):
            sources[words] = found
    if (last := result.last_epochs) is not None:
        count_of = len(last.epochs)
        sources["last epoch" if count_of == 1 else f"mean of last {count_of}"] = last.metrics.outputs
    if result.averaged:
        sources["averaged"] = result.averaged.outputs
    rows = []
    for name, output in outputs:
        for number, metric in enumerate(_variant(output, "")):
            first = [name, count(output.params), count(output.flops)] if number == 0 else ["", "", ""]
            places = decimals(metric, output.metrics[metric])
            values = [of.get(name, {}).get(metric) for of in sources.values()]
            cells = ["" if value is None else f"{value:.{places}f}" for value in values]
            words = f"{heading(metric)}{ARROWS[output.direction(metric)]}"
            rows.append([first[0], words, *cells, *first[1:]])
    return aligned(["output", "metric", *sources, "params", "FLOPs"], rows, left=2)


def _variant(output: Output, prefix: str) -> dict[str, float]:
    """The metrics that are averaged in one way, by their plain names."""
    return {
        plain(metric): value for metric, value in output.metrics.items() if metric == prefix + plain(metric)
    }
