"""run.json, what decides a run's result, and result.json: a run can be resumed, reopened and compared."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offramp.errors import UserError, shown
from offramp.methods import Method
from offramp.nets import NETS, Net
from offramp.paths import user_path
from offramp.plain_json import parse_json
from offramp.recipes.recipe import Recipe
from offramp.runs._record_shape import check_record
from offramp.runs._result_shape import check_result, check_result_of
from offramp.runs.files import RESTORE, read_bytes, read_errors, say_if_unchecked
from offramp.runs.formats import FORMAT, WITH_CHECKSUMS, as_of_today, as_stored
from offramp.runs.left_alone import left_alone
from offramp.runs.targets import targets_to_json

if TYPE_CHECKING:
    from offramp.data import OpenedData

__all__ = [
    "as_json",
    "but_for_epochs",
    "check_checkpoint",
    "check_method",
    "check_same",
    "describe",
    "is_run",
    "read_file",
    "read_record",
    "read_result",
    "record_json",
]

DECISIVE = ("net", "method", "options", "data", "recipe")  # a run goes on with the same of each


def describe(net: Net, method: Method, data: OpenedData[Any], recipe: Recipe, clean: Any) -> dict[str, Any]:
    """The content of ``run.json``.

    Args:
        net: The network.
        method: With its options.
        data: The opened set.
        recipe: With every setting decided.
        clean: The transform that normalises the images that the net is measured on.
    """
    record = {
        "format": FORMAT,
        "net": _spec(net),
        **left_alone(net),
        "method": method.name,
        "options": method.options,
        "data": _of_data(data),
        "normalisation": {"mean": clean.mean, "std": clean.std},  # of every evaluation of this net
        "recipe": recipe.to_dict(),
        "seed": recipe.seed,
        "versions": {name: _version(name) for name in ("offramp", "torch", "lightning-fabric", "numpy")}
        | {"python": platform.python_version()},
    }
    return _reopened(record)


def _reopened(record: dict[str, Any]) -> dict[str, Any]:
    """What a ``run.json`` of a record will give back, so that records compare equal.

    Raises:
        UserError: It could not be read again.
    """
    try:
        return _complete(_from_json(record_json(record)), Path("run.json"))
    except (RecursionError, TypeError, ValueError) as error:  # a UserError among them
        problem = str(error).partition("; restore it from a copy")[0].removeprefix(".: ")
        raise UserError(
            f"such a run could not be opened again: {problem}; name classes by text, and give settings "
            "and options that are finite numbers, text, or lists of these"
        ) from None


def _of_data(data: OpenedData[Any]) -> dict[str, Any]:
    """What a record notes of a data set; of several, of each of them too."""
    sets = getattr(data, "sets", {})
    return {
        "name": data.name,
        "source": data.source,
        **targets_to_json(data.targets),
        "input_size": data.input_size,
        "train": len(data.train),
        "val": len(data.val),
        **({} if data.digest is None else {"digest": data.digest}),
        **({} if data.labels_digest is None else {"labels_digest": data.labels_digest}),
        **({} if data.read is None else {"text": data.read}),
        **({"sets": {name: _of_data(each) for name, each in sets.items()}} if sets else {}),
    }


def is_run(folder: Path) -> bool:
    """Whether the folder holds a run, finished or not."""
    with read_errors(folder):
        return (folder / "run.json").is_file()


def read_record(folder: str | Path) -> dict[str, Any]:
    """The content of a folder's ``run.json``; settings and options that it lacks are those of its time.

    Raises:
        UserError: Not a run folder, or the file is damaged.
    """
    path = user_path(folder) / "run.json"
    return _complete(read_file(path), path)


def _complete(record: dict[str, Any], path: Path) -> dict[str, Any]:
    """The content of a ``run.json``, checked, with all that is known by default.

    Raises:
        UserError: It is damaged, or of a later version.
    """
    check_record(record, path)
    record = as_of_today(record, path)
    try:
        Recipe.from_dict(record["recipe"])
    except UserError as error:
        raise UserError(f"{path}: {error}; restore it from a copy, or train anew") from None
    return record


def read_result(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """The content of a folder's ``result.json``.

    Args:
        folder: The folder.
        record: The content of its ``run.json``.

    Raises:
        UserError: The run is not finished, or the file is damaged or of another run.
    """
    path = folder / "result.json"
    result = read_file(path)
    check_result(result, path)
    check_result_of(result, record, path)
    return result


def check_same(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Check that a run may go on as described now.

    Raises:
        UserError: It was started with something else; the line names it.
    """
    for key in DECISIVE:
        old, new = _comparable(key, before[key], now[key])
        if old != new:
            raise UserError(
                f"{folder} holds a run with another {key}: {_difference(old, new)}; "
                "give what it was started with, or choose another folder"
            )
    _check_labels(folder, before["data"], now["data"])
    for key in ("mean", "std"):
        old, new = (record["normalisation"][key] for record in (before, now))
        if not _nearly(old, new):
            raise UserError(
                f"{folder} holds a run on images whose {key} was {shown(old)}, and it is {shown(new)}; give "
                "the images that it was started with, or choose another folder"
            )


def _check_labels(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Check that the samples of a set, or of several, have the labels that they had.

    Raises:
        UserError: They have others. Records of runs that began before there was a digest tell nothing.
    """
    for name, old in before.get("sets", {}).items():
        _check_labels(folder, old, now["sets"][name])
    digests = before.get("labels_digest"), now.get("labels_digest")
    if None not in digests and digests[0] != digests[1]:
        raise UserError(
            f"{folder} holds a run on other data: {now['name']} has as many samples as it had, but other "
            "labels, or files of other names or sizes; give the data that it was started with, or choose "
            "another folder"
        )


def check_checkpoint(folder: Path, record: str, now: dict[str, Any]) -> None:
    """Check that a checkpoint is of the run that goes on, which may have more epochs by now.

    Args:
        folder: The checkpoint's.
        record: What was in ``run.json`` when it was written.
        now: The record of the run that goes on.

    Raises:
        UserError: It is of a run with something else; the line names it.
    """
    path = folder / "state.pt"
    try:
        before = _complete(_from_json(str(record).encode()), path)
        check_same(folder, before, but_for_epochs(before, now))
    except ValueError as error:  # a UserError among them
        reason = str(error).removeprefix(f"{folder} holds a run with ").partition(";")[0]
        raise UserError(f"{path} is of another training than this one ({reason}); {RESTORE}") from None


def but_for_epochs(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """A record with the epochs and milestones of an earlier one, which those of an extended run replace."""
    old = {key: before["recipe"][key] for key in ("epochs", "milestones")}
    return now | {"recipe": now["recipe"] | old}


def _nearly(old: Any, new: Any) -> bool:
    """Whether numbers, in lists or mappings of the same kind, are the same but for rounding."""
    if isinstance(old, dict):
        return (
            isinstance(new, dict) and old.keys() == new.keys() and all(_nearly(old[k], new[k]) for k in old)
        )
    if isinstance(old, list):
        return isinstance(new, list) and len(old) == len(new) and all(map(_nearly, old, new))
    return math.isclose(old, new, rel_tol=1e-3, abs_tol=1e-6)


def _comparable(key: str, old: Any, new: Any) -> tuple[Any, Any]:
    """A key's old and new value in a run's record, without the parts that do not decide the result."""
    if key == "data":
        old, new = _wherever(old), _wherever(new)
    if key == "recipe":  # options are compared as the method's, how data are read by the data's entries
        elsewhere = dict.fromkeys(("options", "val_split", "tokenizer", "max_tokens", "text"))
        old, new = ({**recipe, **elsewhere} for recipe in (old, new))
    if key == "net" and "shapes" in old and "shapes" in new:  # code of one's own, which may be spelled anew
        both = (old.keys() & new.keys()) - {"net"}
        old, new = ({name: spec[name] for name in sorted(both)} for spec in (old, new))
    return old, new


def _wherever(data: dict[str, Any]) -> dict[str, Any]:
    """What a record notes of a set, without the places of set and tokenizer, which may move, and the labels.

    :func:`_check_labels` compares these.
    """
    elsewhere = {"source": None, "labels_digest": None}
    told = {**data, **elsewhere, "text": {**data.get("text", {}), "tokenizer": None}}
    if "sets" in data:
        told["sets"] = {name: _wherever(each) for name, each in data["sets"].items()}
    return told


def check_method(folder: Path, before: dict[str, Any], method: Method) -> None:
    """Check that a run's method is this one.

    Raises:
        UserError: It is another one, or has other options.
    """
    options = _from_json(as_json({"options": method.options}))
    check_same(folder, before, before | {"method": method.name, **options})


def record_json(record: dict[str, Any]) -> bytes:
    """A record as ``run.json`` holds it."""
    return as_json(as_stored(record))


def as_json(content: Any) -> bytes:
    """JSON as the files of a run folder hold it."""
    return (json.dumps(content, indent=1) + "\n").encode()


def read_file(path: Path) -> dict[str, Any]:
    """The content of a run folder's ``run.json`` or ``result.json``, whatever it is.

    Raises:
        UserError: Not a run folder, not finished, or the file is damaged.
    """
    folder = path.parent
    if not is_run(folder):
        raise UserError(f"{folder} is no run folder (no run.json in it); give one that a training run wrote")
    if not path.exists():
        raise UserError(f"{folder} is not finished; finish it by `fit(..., resume=True)`")
    data = read_bytes(path)
    try:
        content = _from_json(data)
    except ValueError as error:
        raise UserError(f"{path} cannot be read ({error}); restore it from a copy, or train anew") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object; restore it from a copy, or train anew")
    if isinstance(number := content.get("format"), int) and number >= WITH_CHECKSUMS:
        say_if_unchecked(folder)
    return content


def _from_json(text: bytes) -> Any:
    """JSON; keys inside ``options`` that were whole numbers before JSON made them text are so again."""
    content = parse_json(text)
    if isinstance(content, dict) and "options" in content:
        content["options"] = _with_numbers(content["options"])
    return content


def _with_numbers(options: Any) -> Any:
    if isinstance(options, list):
        return [_with_numbers(value) for value in options]
    if not isinstance(options, dict):
        return options
    return {
        int(key) if re.fullmatch("[0-9]+", key) else key: _with_numbers(value)
        for key, value in options.items()
    }


def _difference(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        return ", ".join(f"{key} was {shown(before.get(key))}, is {shown(now.get(key))}" for key in keys)
    return f"it was {shown(before)}, is {shown(now)}"


def _spec(net: Net) -> dict[str, object]:
    """How the library built the net; of one's own, its name, exits and a digest of its tensors' shapes."""
    built: dict[str, object] | None = getattr(net, "spec", None)  # a net of a user's own need not have it
    if built and built["net"] in NETS:
        return built
    spec = built or {"net": type(net).__name__}
    shapes = [(name, tuple(tensor.shape)) for name, tensor in net.state_dict().items()]
    places = getattr(net, "exits_after", ())
    spec = {**spec, "exits_after": places} if places else spec
    return {**spec, "shapes": hashlib.sha256(repr(shapes).encode()).hexdigest()[:12]}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
