"""What a ``result.json`` must hold, and ``last_epochs.json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from offramp.counting import CONVENTIONS
from offramp.errors import shown
from offramp.runs.shape import (
    COUNT,
    METRIC,
    PERCENT,
    TEXT,
    Maybe,
    Named,
    OrNone,
    Rule,
    at_least,
    check_shape,
    damage,
    one_of,
)

__all__ = ["check_epochs", "check_result", "check_result_of"]

BETTER = one_of("higher", "lower")
COST = {"params": COUNT, "flops": OrNone(COUNT)}
TOPS = {"top1": PERCENT, "top5": PERCENT}
VALUES = Named(METRIC)
OUTPUT = {
    "metrics": VALUES,
    "primary": TEXT,
    "better": BETTER,
    "compared": Maybe(Named(BETTER)),
    "params": Maybe(COUNT),
    "flops": Maybe(OrNone(COUNT)),
}
EPOCHS = Rule(
    "growing numbers of epochs",
    lambda value: (
        isinstance(value, list)
        and value != []
        and all(map(at_least(1).allows, value))
        and value == sorted(set(value))
    ),
)
OF_RUN = {"data": TEXT, "net": TEXT, "method": TEXT, "seed": COUNT}
RESULT = {**OF_RUN, "convention": Maybe(one_of(*CONVENTIONS)), "micro_batches": Maybe(at_least(1))}
METRICS = Named({"outputs": Named(VALUES), "ensemble": OrNone(VALUES)})
SLACK = 1e-6  # of a mean, in percent


def check_result(content: Any, path: Path) -> None:
    """Check that a ``result.json`` holds the result of a run, of exits that classify or of any outputs.

    Raises:
        UserError: A key is missing or holds something else; the line names file and key.
    """
    check_shape(content, RESULT, path)
    _check_metrics(content, COST, path)
    for key in ("averaged_weights", "last_epochs"):
        if key not in content:
            continue
        beside = content[key]
        check_shape(beside, {"epochs": EPOCHS} if key == "last_epochs" else {}, path, key)
        _check_metrics(beside, {}, path, key)
        own, others = (_parts(metrics) for metrics in (content, beside))
        if own != others:  # both are of the same samples
            raise damage(beside, path, key, "of the same outputs as the result")


def check_result_of(result: Mapping[str, Any], record: Mapping[str, Any], path: Path) -> None:
    """Check that a ``result.json`` is of the run of a record.

    Raises:
        UserError: It is of another net, method, data set or seed; the line names file and key.
    """
    run = {**record, "net": record["net"]["net"], "data": record["data"]["name"]}
    for key in OF_RUN:
        if result[key] != run[key]:
            raise damage(result[key], path, key, f"{shown(run[key])}, as run.json beside it says")
    last, epochs = result.get("last_epochs"), record["recipe"]["epochs"]
    if last is not None and last["epochs"][-1] != epochs:
        raise damage(last["epochs"], path, "last_epochs.epochs", f"epochs up to the last one, {epochs}")


def check_epochs(content: Any, path: Path) -> None:
    """Check that a ``last_epochs.json`` holds the metrics of epochs.

    Raises:
        UserError: A key is missing or holds something else; the line names file and key.
    """
    check_shape(content, METRICS, path)
    for epoch in content:
        if not (epoch.isascii() and epoch.isdigit() and len(epoch) < 10):
            raise damage(epoch, path, epoch, "the number of an epoch")


def _check_metrics(content: dict[str, Any], cost: dict[str, Any], path: Path, inside: str = "") -> None:
    """Check what :func:`~offramp.runs._result_keys.metrics_to_json` wrote, under a key."""
    dot = f"{inside}." if inside else ""
    if "exits" in content or "outputs" not in content:
        exits = {"exits": [{**TOPS, **cost}], "average_top1": PERCENT, "ensemble_top1": PERCENT}
        check_shape(content, exits, path, inside)
        if not content["exits"]:
            raise damage(content["exits"], path, f"{dot}exits", "a list of one exit at least")
        mean, found = fmean(each["top1"] for each in content["exits"]), content["average_top1"]
        if abs(mean - found) > SLACK:
            raise damage(found, path, f"{dot}average_top1", f"the mean of the exits' top1, {mean:.6g}")
        return
    shape = {"outputs": Named({**OUTPUT, **cost}), "ensemble": OrNone(VALUES)}
    check_shape(content, shape, path, inside)
    if not content["outputs"]:
        raise damage({}, path, f"{dot}outputs", "of one output at least")
    for name, output in content["outputs"].items():
        needed = [output["primary"], *output.get("compared", ())]
        shape = {metric: TOPS.get(metric, METRIC) for metric in [*needed, *output["metrics"]]}
        check_shape(output["metrics"], shape, path, f"{dot}outputs.{name}.metrics")
    _check_ensemble(content, path, f"{dot}ensemble")


def _check_ensemble(content: dict[str, Any], path: Path, key: str) -> None:
    """Check that an ensemble, where outputs have one, has the metric that they have in common."""
    found = content["ensemble"]
    if found is None:
        return
    primaries = {output["primary"] for output in content["outputs"].values()}
    if len(primaries) != 1:
        raise damage(found, path, key, "null where outputs have several metrics")
    check_shape(found, {metric: TOPS.get(metric, METRIC) for metric in primaries}, path, key)


def _parts(metrics: dict[str, Any]) -> tuple[Any, ...]:
    """What metrics are of: the number of exits, or the names of outputs and whether they have an ensemble."""
    if "exits" in metrics:
        return (len(metrics["exits"]),)
    return {*metrics["outputs"]}, metrics["ensemble"] is None
