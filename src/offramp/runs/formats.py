"""Files of runs from before the library knew all that it knows today, read in this one place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from offramp.errors import UserError
from offramp.methods import method
from offramp.recipes.recipe import Recipe

__all__ = ["completed_options", "completed_recipe", "renamed_options", "renamed_state"]

# Settings whose default is no longer what the library did before it had them.
OF_THEIR_TIME = {"channels_last": False, "val_split": False}
# Options that went to several parts of a method, before such a name had to be qualified.
FOR_ALL_PARTS = ("scales",)
# What checkpoints called the phases of an epoch.
OF_PHASES = {"part": "phase", "part_began": "phase_began", "part_rows": "phase_rows"}


def completed_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded recipe with every setting; one that it lacks is what training did at its time."""
    return {**Recipe().to_dict(), **OF_THEIR_TIME, **recipe}


def completed_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded options of a method, by their names of today; one that the record lacks is at its default."""
    try:
        known = method(name).options
    except UserError:  # a Method of the user's own
        return dict(options)
    defaults: dict[str, Any] = json.loads(json.dumps(known))  # as a record holds them
    return defaults | renamed_options(name, options)


def renamed_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a method as they were given, by their names of today."""
    try:
        row = method(name)
    except UserError:
        return dict(options)
    found: dict[str, Any] = {}
    for key, value in options.items():
        several = key in FOR_ALL_PARTS and len(row.named(key)) > 1
        found |= dict.fromkeys(row.named(key) if several else [key], value)
    return found


def renamed_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's state by its names of today."""
    return {OF_PHASES.get(key, key): value for key, value in state.items()}
