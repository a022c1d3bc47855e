"""run.json: what decides a run's result, so that a run can be resumed, reopened and compared."""

from __future__ import annotations

import json
import platform
import reprlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offramp.errors import UserError
from offramp.methods import Method
from offramp.nets import MultiExitNet
from offramp.training.recipe import Recipe

if TYPE_CHECKING:
    from offramp.data import ImageData

__all__ = ["as_json", "check_same", "describe", "is_run", "read_json", "read_record"]

_SHORT = reprlib.Repr()  # of a thousand class names, six
_SHORT.maxstring = _SHORT.maxother = 200

DECISIVE = ("net", "method", "options", "data", "recipe")  # a run goes on with the same of each


def describe(net: MultiExitNet, method: Method, data: ImageData, recipe: Recipe) -> dict[str, Any]:
    """The content of ``run.json``."""
    from offramp.data import pipeline

    _, clean = pipeline(recipe.augment, data)
    record = {
        "net": net.spec or type(net).__name__,
        "method": method.name,
        "options": method.options,
        "data": {
            "name": data.name,
            "source": data.source,
            "num_classes": data.num_classes,
            "classes": data.classes,
            "input_size": data.input_size,
            "train": len(data.train),
            "val": len(data.val),
        },
        "normalisation": {"mean": clean.mean, "std": clean.std},  # of every evaluation of this net
        "recipe": recipe.to_dict(),
        "seed": recipe.seed,
        "versions": {name: _version(name) for name in ("offramp", "torch", "lightning-fabric", "numpy")}
        | {"python": platform.python_version()},
    }
    return _from_json(as_json(record))  # what the file gives back, so that records compare equal


def is_run(folder: Path) -> bool:
    """Whether the folder holds a run, finished or not."""
    return (folder / "run.json").is_file()


def read_record(folder: Path) -> dict[str, Any]:
    """The content of a folder's ``run.json``.

    Raises:
        UserError: Not a run folder, or the file is damaged.
    """
    if not is_run(folder):
        raise UserError(f"{folder} is no run folder (no run.json in it); give one that a training run wrote")
    record = read_json(folder / "run.json")
    for key in (*DECISIVE, "normalisation", "seed"):
        if key not in record:
            raise UserError(f"{folder / 'run.json'} lacks {key!r}; restore it from a copy, or train anew")
    return record


def check_same(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Whether a run may go on as described now.

    Raises:
        UserError: It was started with something else; the line names what.
    """
    for key in DECISIVE:
        old, new = before[key], now[key]
        if key == "data":  # the same set may lie elsewhere by now
            old, new = old | {"source": None}, new | {"source": None}
        if old != new:
            raise UserError(
                f"{folder} holds a run with another {key}: {_difference(old, new)}; "
                "give what it was started with, or choose another folder"
            )


def as_json(content: Any) -> bytes:
    """As the files of a run folder are written."""
    return (json.dumps(content, indent=1) + "\n").encode()


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object of a run folder.

    Raises:
        UserError: The file is missing or damaged.
    """
    try:
        content = _from_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); restore it from a copy, or train anew") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object; restore it from a copy, or train anew")
    return content


def _from_json(text: bytes) -> Any:
    """Keys that were whole numbers before JSON made them text are whole numbers again."""
    return json.loads(text, object_hook=lambda d: {int(k) if k.isdigit() else k: v for k, v in d.items()})


def _difference(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        return ", ".join(
            f"{key} was {_SHORT.repr(before.get(key))}, is {_SHORT.repr(now.get(key))}" for key in keys
        )
    return f"it was {before!r}, is {now!r}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
