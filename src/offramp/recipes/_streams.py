"""Settings of a recipe for several data sets: how they are drawn, and what one of them has of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from offramp.checks import choice
from offramp.data.streams import EPOCHS_OF, ORDERS
from offramp.errors import UserError, guess, shown

__all__ = ["PER_SET", "check_streams", "of_set"]

# Settings that a data set can have of its own: how it is opened, and how its samples are augmented.
PER_SET = (
    "augment", "val_fraction", "train_limit", "test_limit", "size", "val_split", "image_channels", "image",
    "label", "tasks", "classes", "ignore_label", "tokenizer", "max_tokens", "text",
)  # fmt: skip


def check_streams(recipe: Any) -> None:
    """Check the settings for several data sets, and keep what is given by set as plain dicts."""
    choice(recipe, "streams", ORDERS)
    choice(recipe, "epoch_of", EPOCHS_OF)
    for name, example in (("proportions", "{depth: 1, segmentation: 3}"), ("sets", "{depth: {size: 64}}")):
        value = getattr(recipe, name)
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise UserError(
                f"{name} is {shown(value)}, must be a mapping from names of data sets, e.g. {example}"
            )
        object.__setattr__(recipe, name, dict(value))
    for name, share in recipe.proportions.items():
        if not isinstance(share, int) or isinstance(share, bool) or share < 1:
            raise UserError(
                f"proportions: that of {name} is {shown(share)}, must be a whole number of at least 1"
            )
    for name, settings in recipe.sets.items():
        if not isinstance(settings, Mapping):
            raise UserError(
                f"sets: {name} is {shown(settings)}, must be a mapping of settings, e.g. {{size: 64}}"
            )
        for key in settings:
            if key not in PER_SET:
                raise UserError(
                    f"sets: {name}: {shown(key)} is no setting of one data set{guess(key, PER_SET)}; there "
                    f"are {', '.join(PER_SET)}"
                )
        recipe.sets[name] = dict(settings)
        try:
            of_set(recipe, name)
        except UserError as error:
            raise UserError(f"sets: {name}: {str(error).removeprefix('recipe: ')}") from None


def of_set(recipe: Any, name: str) -> Any:
    """The recipe of one data set of several: with the set's own settings in place of the common ones."""
    return dataclasses.replace(recipe, sets={}, **recipe.sets.get(name, {}))
