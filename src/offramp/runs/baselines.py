"""Finished runs that another is compared with: of all its outputs, or of one each, on the same data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from offramp.errors import UserError
from offramp.paths import user_path
from offramp.runs.record import read_record, read_result
from offramp.runs.result import Result
from offramp.say import say

__all__ = ["read_baselines"]

# What runs under one recipe may differ in: options belong to the method, the rest to one task or one net.
_OWN = {"options", "seed", "tasks", "channels_last", "last_epochs", "checkpoint_every"}


def read_baselines(folders: Iterable[str | Path], record: Mapping[str, Any]) -> list[Result]:
    """The results of runs on the data of another, or on one of its sets; other settings of a recipe are said.

    Args:
        folders: Run folders.
        record: The content of the other run's ``run.json``.

    Raises:
        UserError: A folder holds no finished run, or one on other data.
    """
    results = []
    for folder in map(user_path, folders):
        baseline = read_record(folder)
        theirs, ours = baseline["data"], record["data"]
        sets = [ours, *ours.get("sets", {}).values()]
        if (theirs["name"], theirs.get("digest")) not in [(s["name"], s.get("digest")) for s in sets]:
            other = f"{theirs['name']}, and the run on {ours['name']}"
            raise UserError(f"the baseline {folder} is on {other}; give a baseline on the same data")
        recipe = record["recipe"]
        if differing := [key for key in recipe.keys() - _OWN if baseline["recipe"].get(key) != recipe[key]]:
            say(f"the baseline {folder} was trained by another recipe: {', '.join(sorted(differing))} differ")
        results.append(Result.from_json(read_result(folder, baseline)))
    return results
