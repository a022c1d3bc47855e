"""Required content of the files of a run folder, and one clear line where it is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from offramp.checks import is_thread_count
from offramp.data.targets import KINDS
from offramp.errors import UserError, shown

__all__ = ["check_record", "check_result", "check_shape"]

# At least, of run.json and result.json: a dict has these keys, a list has items of this kind.
RECORD = {
    "net": {"net": str},
    "method": str,
    "options": dict,
    "data": {"name": str, "source": str, "input_size": [int]},
    "normalisation": dict,
    "recipe": dict,
    "seed": int,
}
TEXT = {"column": str | None, "max_tokens": int | None, "tokenizer": str | None, "digest": str}
RESULT = {"data": str, "net": str, "method": str, "seed": int}
COST = {"params": int, "flops": int | None}
TOPS = {"top1": float, "top5": float}
JOINT = {"average_top1": float, "ensemble_top1": float}
OUTPUT = {"metrics": dict, "primary": str, "better": str}


def check_shape(content: Any, shape: Any, path: Path, key: str = "") -> None:
    """Check that a file of a run folder has the required content.

    Args:
        content: What the file holds under the key.
        shape: A type; or a dict of keys with their shapes; or a list with the shape of its items.
        path: The file.
        key: Position in it, e.g. ``data.source``; "" is all of it.

    Raises:
        UserError: A key is missing or holds something else; the line names file and key.
    """
    kind: Any = type(shape) if isinstance(shape, (dict, list)) else (int, float) if shape is float else shape
    if not isinstance(content, kind):
        raise _damage(content, path, key)
    if isinstance(shape, list):
        for i, item in enumerate(content):
            check_shape(item, shape[0], path, f"{key}[{i}]")
    if isinstance(shape, dict):
        for name, inner in shape.items():
            inside = f"{key}.{name}" if key else name
            if name not in content:
                raise UserError(
                    f"{path.parent}: no {inside!r} in its {path.name}; restore it from a copy, or train anew"
                )
            check_shape(content[name], inner, path, inside)


def check_record(content: Any, path: Path) -> None:
    """Check that a ``run.json`` holds the record of a run.

    Raises:
        UserError: A key is missing or holds something else; the line names file and key.
    """
    check_shape(content, RECORD, path)
    for key in {"frozen", "eval_mode"} & content.keys():
        check_shape(content[key], [str], path, key)
    if not is_thread_count(content.get("threads", 1)):
        raise _damage(content["threads"], path, "threads")
    _check_targets(content["data"], path)
    if "text" in content["data"]:
        check_shape(content["data"]["text"], TEXT, path, "data.text")
    normalisation, sets = content["normalisation"], content["data"].get("sets")
    if sets is None:
        _check_inputs(content["data"]["input_size"], normalisation, path)
        return
    check_shape(sets, dict, path, "data.sets")
    for name, data in sets.items():
        check_shape(data, RECORD["data"], path, f"data.sets.{name}")
        _check_targets(data, path, f"data.sets.{name}")
        check_shape(normalisation, {key: {name: list} for key in ("mean", "std")}, path, "normalisation")
        own = {key: normalisation[key][name] for key in ("mean", "std")}
        _check_inputs(data["input_size"], own, path, f" of {name}")


def _check_inputs(size: list[int], normalisation: dict[str, Any], path: Path, of: str = "") -> None:
    """Check the size of one input, and the normalisation of its channels."""
    check_shape(normalisation, {"mean": [float], "std": [float]}, path, f"normalisation{of}")
    if len(size) not in (1, 3) or min(size) < 1:  # of texts, of images
        raise _damage(size, path, f"data.input_size{of}")
    channels = size[0] if len(size) == 3 else 0
    for key in ("mean", "std"):
        if len(normalisation[key]) != channels:
            raise _damage(normalisation[key], path, f"normalisation.{key}{of}")


def _check_targets(data: dict[str, Any], path: Path, inside: str = "data") -> None:
    """Check what :func:`~offramp.runs.targets.targets_to_json` wrote."""
    if "targets" not in data:
        return check_shape(data, {"classes": [str]}, path, inside)
    check_shape(data["targets"], {}, path, f"{inside}.targets")
    for name, target in data["targets"].items():
        key = f"{inside}.targets.{name}"
        check_shape(target, {"kind": str}, path, key)
        told = {"classes": [str], "size": int}
        check_shape(target, {part: told[part] for part in told.keys() & target.keys()}, path, key)
        if target["kind"] not in KINDS:
            raise _damage(target["kind"], path, f"{key}.kind")


def check_result(content: Any, path: Path) -> None:
    """Check that a ``result.json`` holds the result of a run, of exits that classify or of any outputs.

    Raises:
        UserError: A key is missing or holds something else; the line names file and key.
    """
    check_shape(content, RESULT, path)
    if "micro_batches" in content:
        check_shape(content, {"micro_batches": int}, path)
    _check_metrics(content, COST, path)
    for key in ("averaged_weights", "last_epochs"):
        if key not in content:
            continue
        beside = content[key]
        check_shape(beside, {"epochs": [int]} if key == "last_epochs" else {}, path, key)
        _check_metrics(beside, {}, path, f"{key}.")
        own, others = (_parts(metrics) for metrics in (content, beside))
        if own != others:  # both are of the same samples
            raise _damage(beside, path, key)


def _check_metrics(content: dict[str, Any], cost: dict[str, Any], path: Path, inside: str = "") -> None:
    """Check what :func:`~offramp.runs._result_keys.metrics_to_json` wrote; keys begin with ``inside``."""
    if "exits" in content or "outputs" not in content:
        for name, shape in {"exits": [{**TOPS, **cost}], **JOINT}.items():
            _check_key(content, name, shape, path, inside)
        if not content["exits"]:
            raise _damage(content["exits"], path, f"{inside}exits")
        return
    _check_key(content, "outputs", dict, path, inside)
    for name, output in content["outputs"].items():
        key = f"{inside}outputs.{name}"
        check_shape(output, OUTPUT | cost, path, key)
        metrics = dict.fromkeys([output["primary"], *output["metrics"]], float)
        check_shape(output["metrics"], metrics, path, f"{key}.metrics")
        _check_directions(output, path, key)
    _check_key(content, "ensemble", dict | None, path, inside)
    if content["ensemble"] is not None:
        primaries = {output["primary"] for output in content["outputs"].values()}
        if len(primaries) != 1:
            raise _damage(content["ensemble"], path, f"{inside}ensemble")
        check_shape(content["ensemble"], dict.fromkeys(primaries, float), path, f"{inside}ensemble")


def _check_directions(output: dict[str, Any], path: Path, key: str) -> None:
    """Check which way the metrics of an output are better, and that those that are compared are there."""
    directions = {"better": output["better"]}
    if "compared" in output:
        check_shape(output["compared"], dict, path, f"{key}.compared")
        check_shape(output["metrics"], dict.fromkeys(output["compared"], float), path, f"{key}.metrics")
        directions |= {f"compared.{metric}": better for metric, better in output["compared"].items()}
    for name, better in directions.items():
        if better not in ("higher", "lower"):
            raise _damage(better, path, f"{key}.{name}")


def _check_key(content: dict[str, Any], name: str, shape: Any, path: Path, inside: str) -> None:
    """Check one key of a dict, by a name that says where the dict is."""
    given = {key: content[key] for key in {name} & content.keys()}
    check_shape({f"{inside}{key}": value for key, value in given.items()}, {f"{inside}{name}": shape}, path)


def _parts(metrics: dict[str, Any]) -> tuple[Any, ...]:
    """What metrics are of: the number of exits, or the names of outputs and whether they have an ensemble."""
    if "exits" in metrics:
        return (len(metrics["exits"]),)
    return {*metrics["outputs"]}, metrics["ensemble"] is None


def _damage(content: Any, path: Path, key: str) -> UserError:
    problem = f"{key!r} in its {path.name} is {shown(content)}"
    return UserError(f"{path.parent}: {problem}; restore it from a copy, or train anew")
