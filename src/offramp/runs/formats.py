"""Older formats of the files of a run, translated to the current one in this one place.

The formats of ``run.json``:

1. (No ``format`` in it.) A method's options stand twice: all of them in ``options``, those that were given in
   ``recipe`` too.
2. They stand in ``options`` alone. ``frozen`` and ``eval_mode`` name the parts of the net that the training
   leaves as they are (:mod:`offramp.runs.left_alone`).
3. ``SHA256SUMS`` beside it holds a checksum of each file (:mod:`offramp.runs.files`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from offramp.errors import UserError, shown
from offramp.methods import method
from offramp.nets.zoo.builder import completed
from offramp.recipes.recipe import Recipe

__all__ = ["FORMAT", "WITH_CHECKSUMS", "as_of_today", "as_stored", "renamed_state"]

FORMAT = 3
WITH_CHECKSUMS = 3
# Settings whose default is no longer what the library did before it had them.
OF_THEIR_TIME = {"channels_last": False, "val_split": False, "last_epochs": 0}
# Options that went to several parts of a method, before such a name had to be qualified.
FOR_ALL_PARTS = ("scales",)
# What checkpoints called the phases of an epoch.
OF_PHASES = {"part": "phase", "part_began": "phase_began", "part_rows": "phase_rows"}


def as_of_today(record: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A record of any format, complete: settings and options that it lacks are those of its time.

    The recipe gets those options of the method that are not at their defaults.

    Args:
        record: As a ``run.json`` has it, with the keys ``net``, ``method``, ``options`` and ``recipe``.
        path: The file.

    Raises:
        UserError: A later version of the library has written it.
    """
    number = record.get("format", 1)
    if type(number) is not int or not 1 <= number <= FORMAT:
        raise UserError(
            f"{path} is of format {shown(number)}, and this version of offramp reads formats up to {FORMAT}; "
            "take the version that wrote it, or a later one"
        )
    name = record["method"]
    defaults = _defaults(name)
    options = (defaults or {}) | _renamed(name, record["options"])
    chosen = {key: value for key, value in options.items() if defaults and defaults.get(key) != value}
    recipe = {**Recipe().to_dict(), **OF_THEIR_TIME, **record["recipe"], "options": chosen}
    updates = {"format": FORMAT, "net": completed(record["net"]), "options": options, "recipe": recipe}
    return {**record, **updates}


def as_stored(record: Mapping[str, Any]) -> dict[str, Any]:
    """A complete record as ``run.json`` has it."""
    recipe = {key: value for key, value in record["recipe"].items() if key != "options"}
    return {**record, "recipe": recipe}


def _defaults(name: str) -> dict[str, Any] | None:
    """A method's options at their defaults, as JSON has them; None of a Method of the user's own."""
    try:
        options: dict[str, Any] = json.loads(json.dumps(method(name).options))
    except UserError:
        return None
    return options


def _renamed(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded options of a method by their names of today."""
    try:
        current = method(name)
    except UserError:
        return dict(options)
    renamed: dict[str, Any] = {}
    for key, value in options.items():
        several = key in FOR_ALL_PARTS and len(current.named(key)) > 1
        renamed |= dict.fromkeys(current.named(key) if several else [key], value)
    return renamed


def renamed_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's state by its names of today."""
    return {OF_PHASES.get(key, key): value for key, value in state.items()}
