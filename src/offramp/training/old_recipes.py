"""Recipes in run records that were written before the recipe had all of its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from offramp.training.recipe import Recipe

__all__ = ["completed_recipe"]

# Settings whose default is no longer what the library did before it had them.
OF_THEIR_TIME = {"channels_last": False, "val_split": False}


def completed_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded recipe with every setting; one that it lacks is what training did at its time."""
    return {**Recipe().to_dict(), **OF_THEIR_TIME, **recipe}
