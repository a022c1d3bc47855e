"""More epochs for a run that is there, if a longer run would have begun exactly as this one did."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from offramp.errors import UserError
from offramp.methods import Method
from offramp.runs import checkpoint
from offramp.runs.files import SHA256SUMS, read_bytes, read_errors, remove_file, write_files, write_folder
from offramp.runs.record import but_for_epochs, check_same, read_record, record_json

__all__ = ["check_extension", "extend", "is_longer"]


def is_longer(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether a run's record asks for more epochs than the one before."""
    return bool(now["recipe"]["epochs"] > before["recipe"]["epochs"])


def check_extension(folder: Path, before: dict[str, Any], now: dict[str, Any], method: Method) -> None:
    """Check that a run may go on to the epochs that are asked for now.

    Raises:
        UserError: Something else than epochs and later milestones differs; schedule or method read the number
            of epochs, so that the past would have been another one; or no checkpoint is left.
    """
    check_same(folder, before, but_for_epochs(before, now))
    reasons = [*_of_the_schedule(before["recipe"], now["recipe"]), *_of_the_method(method)]
    if reasons:
        raise UserError(
            f"{folder} cannot be extended from {before['recipe']['epochs']} to {now['recipe']['epochs']} "
            f"epochs, since {' and '.join(reasons)}; train the longer run anew into another folder"
        )
    if (folder / "result.json").is_file() and checkpoint.last(folder) is None:
        raise UserError(
            f"{folder} has no checkpoint left to go on from; train the longer run anew into another folder"
        )


def extend(folder: Path, record: dict[str, Any]) -> None:
    """Make a run one of more epochs. The files of a finished one are copied to ``epochs-N/`` in it before.

    Killed at any moment, it leaves a run that can be resumed, as the shorter or as the longer one.

    Args:
        folder: The run folder.
        record: The content of its ``run.json`` from now on.

    Raises:
        UserError: The disk is full or not writable; the run is still the shorter one.
    """
    result = folder / "result.json"
    if result.is_file():
        name = f"epochs-{read_record(folder)['recipe']['epochs']}"
        names = itertools.chain([name], (f"{name}-{n}" for n in itertools.count(2)))
        backup = next(path for path in map(folder.joinpath, names) if not path.exists())
        with read_errors(folder):
            paths = [path for path in folder.iterdir() if path.is_file() and path.name[0] != "."]
        write_folder(backup, {path.name: read_bytes(path) for path in paths if path.name != SHA256SUMS})
        remove_file(result)  # before the new record, under which it would be a false result
    write_files(folder, {"run.json": record_json(record)})


def _of_the_schedule(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    schedule, epochs = before["schedule"], before["epochs"]
    if schedule not in ("constant", "multistep"):
        return [f"the learning rate of schedule {schedule} follows the number of epochs"]
    past, other = ([m for m in recipe["milestones"] if m < epochs] for recipe in (before, now))
    if schedule == "multistep" and past != other:
        return [f"milestones {other} of the epochs that are done were {past}"]
    return []


def _of_the_method(method: Method) -> list[str]:
    for part_type in (type(part) for axis, part in method.parts.items() if axis != "fork"):
        if part_type.__module__.partition(".")[0] != "offramp" and "reads_epochs" not in vars(part_type):
            return [
                f"{part_type.__name__} of method {method.name} is your own and may read their number (where "
                "it does not, say reads_epochs = () in that class)"
            ]
    return [f"{reader} of method {method.name} reads the number of epochs" for reader in method.reads_epochs]
