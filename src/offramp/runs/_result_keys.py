"""The keys of ``result.json`` for metrics and costs, read and written.

Of a network whose outputs are exits that classify, the file has the keys that it has had from the beginning:
``exits``, ``average_top1``, ``ensemble_top1``. Of any other it has ``outputs`` and ``ensemble``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from offramp.runs.output import Output
from offramp.tasks.evaluation import Metrics
from offramp.tasks.outputs import exit_name

__all__ = ["classifies_at_exits", "metrics_from_json", "metrics_to_json", "outputs_from_json"]


def classifies_at_exits(outputs: Mapping[str, Output]) -> bool:
    """Whether the outputs are exits that classify, with the metrics that the keys of exits have."""
    return bool(outputs) and all(
        output.primary == "top1"
        and output.better == "higher"
        and output.metrics.keys() == {"top1", "top5"}
        and name == exit_name(k)
        for k, (name, output) in enumerate(outputs.items(), 1)
    )


def metrics_to_json(
    metrics: Metrics, outputs: Mapping[str, Output], *, costs: bool = False
) -> dict[str, Any]:
    """Plain values of metrics.

    Args:
        metrics: The metrics.
        outputs: The outputs that they are of.
        costs: Whether to add what each output costs.
    """
    cost = {
        name: {"params": output.params, "flops": output.flops} if costs else {}
        for name, output in outputs.items()
    }
    if classifies_at_exits(outputs) and metrics.ensemble is not None:
        return {
            "exits": [{**values, **cost[name]} for name, values in metrics.outputs.items()],
            "average_top1": sum(values["top1"] for values in metrics.outputs.values()) / len(metrics.outputs),
            "ensemble_top1": metrics.ensemble["top1"],
        }
    return {
        "outputs": {
            name: {
                "metrics": dict(values),
                "primary": outputs[name].primary,
                "better": outputs[name].better,
                **_compared(outputs[name]),
                **cost[name],
            }
            for name, values in metrics.outputs.items()
        },
        "ensemble": metrics.ensemble,
    }


def _compared(output: Output) -> dict[str, Any]:
    """The metrics that Delta-m goes over, where they are others than the primary one."""
    alone = output.compared == {output.primary: output.better}
    return {} if alone else {"compared": dict(output.compared)}


def metrics_from_json(content: Mapping[str, Any]) -> Metrics:
    """Read what :func:`metrics_to_json` wrote, without costs."""
    if "exits" not in content:
        outputs = {name: entry["metrics"] for name, entry in content["outputs"].items()}
        return Metrics(outputs, content["ensemble"])
    exits = enumerate(content["exits"], 1)
    outputs = {exit_name(k): {"top1": entry["top1"], "top5": entry["top5"]} for k, entry in exits}
    return Metrics(outputs, {"top1": content["ensemble_top1"]})


def outputs_from_json(content: Mapping[str, Any]) -> dict[str, Output]:
    """Read the outputs of what :func:`metrics_to_json` wrote with costs."""
    metrics = metrics_from_json(content).outputs
    if "exits" in content:
        classes = {"primary": "top1", "better": "higher"}
        outputs = {exit_name(k): entry | classes for k, entry in enumerate(content["exits"], 1)}
    else:
        outputs = content["outputs"]
    return {
        name: Output(
            metrics[name],
            entry["primary"],
            entry["better"],
            entry["params"],
            entry["flops"],
            entry.get("compared", {}),
        )
        for name, entry in outputs.items()
    }
