"""What a ``run.json`` must hold."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from offramp.checks import is_thread_count
from offramp.data.targets import KINDS
from offramp.runs.shape import (
    COUNT,
    NUMBER,
    POSITIVE,
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

__all__ = ["check_record"]

LARGEST_INPUT = 2**30  # numbers of one image or text
SOME = at_least(1)
SIZE = Rule(
    f"the size of a text, or channels, height and width of an image, at most {LARGEST_INPUT} numbers in all",
    lambda size: (
        isinstance(size, list)
        and len(size) in (1, 3)
        and all(map(SOME.allows, size))
        and math.prod(size) <= LARGEST_INPUT
    ),
)
TARGET = {"kind": one_of(*KINDS), "classes": Maybe([TEXT]), "size": Maybe(SOME)}
DATA = {
    "name": TEXT,
    "source": TEXT,
    "input_size": SIZE,
    "num_classes": Maybe(SOME),
    "classes": Maybe([TEXT]),
    "targets": Maybe(Named(TARGET)),
    "train": Maybe(COUNT),
    "val": Maybe(COUNT),
    "digest": Maybe(TEXT),
    "labels_digest": Maybe(TEXT),
    "text": Maybe(
        {"column": OrNone(TEXT), "max_tokens": OrNone(SOME), "tokenizer": OrNone(TEXT), "digest": TEXT}
    ),
}
RECORD = {
    "net": {"net": TEXT},
    "frozen": Maybe([TEXT]),
    "eval_mode": Maybe([TEXT]),
    "method": TEXT,
    "options": {},
    "data": {**DATA, "sets": Maybe(Named(DATA))},
    "normalisation": {},
    "recipe": {"seed": Maybe(COUNT)},
    "seed": COUNT,
    "init": Maybe({"source": TEXT, "digest": TEXT, "as_initialised": [TEXT], "unused": [TEXT]}),
    "threads": Maybe(Rule("a number of threads", is_thread_count)),
    "versions": Maybe(Named(TEXT)),
}


def check_record(content: Any, path: Path) -> None:
    """Check that a ``run.json`` holds the record of a run.

    Raises:
        UserError: A key is missing or holds something else; the line names file and key.
    """
    check_shape(content, RECORD, path)
    if content["recipe"].get("seed", content["seed"]) != content["seed"]:
        raise damage(content["seed"], path, "seed", f"the recipe's, {content['recipe']['seed']}")
    data, normalisation = content["data"], content["normalisation"]
    _check_targets(data, path, "data")
    if "sets" not in data:
        _check_channels(data, normalisation, path)
        return
    for name, own in data["sets"].items():
        _check_targets(own, path, f"data.sets.{name}")
        check_shape(normalisation, {key: {name: [NUMBER]} for key in ("mean", "std")}, path, "normalisation")
        _check_channels(own, {key: normalisation[key][name] for key in ("mean", "std")}, path, f".{name}")


def _check_targets(data: dict[str, Any], path: Path, inside: str) -> None:
    """Check what :func:`~offramp.runs.targets.targets_to_json` wrote."""
    if "targets" in data:
        return
    check_shape(data, {"classes": [TEXT]}, path, inside)
    classes = len(data["classes"])
    if data.get("num_classes", classes) != classes:
        raise damage(data["num_classes"], path, f"{inside}.num_classes", f"{classes}, as many as its classes")


def _check_channels(data: dict[str, Any], levels: dict[str, Any], path: Path, of: str = "") -> None:
    """Check mean and deviation of the channels of images; texts have none."""
    size = data["input_size"]
    channels = size[0] if len(size) == 3 else 0
    for key, rule in (("mean", NUMBER), ("std", POSITIVE)):
        position = f"normalisation.{key}{of}"
        if key not in levels:
            raise damage(levels, path, f"normalisation{of}", f"a mapping with {key}")
        check_shape(levels[key], [rule], path, position)
        if len(levels[key]) != channels:
            raise damage(levels[key], path, position, f"{channels} numbers, one for each channel")
