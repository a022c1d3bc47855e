"""Required content of the files of a run folder, and one clear line where it is missing."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

from offramp.errors import UserError

__all__ = ["RECORD", "check_result", "check_shape", "shortened"]

# At least, of run.json and result.json: a dict has these keys, a list has items of this kind.
RECORD = {
    "net": {"net": str},
    "method": str,
    "options": dict,
    "data": {"name": str, "source": str, "classes": [str], "input_size": [int]},
    "normalisation": {"mean": [float], "std": [float]},
    "recipe": dict,
    "seed": int,
}
RESULT = {"data": str, "net": str, "method": str, "seed": int}
EXITS = {
    "exits": [{"top1": float, "top5": float, "params": int, "flops": int | None}],
    "average_top1": float,
    "ensemble_top1": float,
}
OUTPUT = {"metrics": dict, "primary": str, "better": str, "params": int, "flops": int | None}

_SHORT = reprlib.Repr()  # of a thousand class names, six
_SHORT.maxstring = _SHORT.maxother = 200
shortened = _SHORT.repr


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
        problem = f"{key!r} in its {path.name} is {shortened(content)}"
        raise UserError(f"{path.parent}: {problem}; restore it from a copy, or train anew")
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


def check_result(content: Any, path: Path) -> None:
    """Check that a ``result.json`` holds the result of a run, of exits that classify or of any outputs.

    Raises:
        UserError: A key is missing or holds something else; the line names file and key.
    """
    check_shape(content, RESULT, path)
    if "outputs" not in content:
        return check_shape(content, EXITS, path)
    check_shape(content, {"outputs": dict, "ensemble": dict | None}, path)
    for name, output in content["outputs"].items():
        check_shape(output, OUTPUT, path, f"outputs.{name}")
        metrics = dict.fromkeys([output["primary"], *output["metrics"]], float)
        check_shape(output["metrics"], metrics, path, f"outputs.{name}.metrics")
        if output["better"] not in ("higher", "lower"):
            check_shape(None, str, path, f"outputs.{name}.better")
