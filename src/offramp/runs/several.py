"""The data sets of a run that has several: as its recipe says, each with its own settings."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from offramp.errors import UserError, guess, shown
from offramp.paths import user_path
from offramp.recipes.recipe import Recipe

if TYPE_CHECKING:
    from offramp.data import JointData, OpenedData

__all__ = ["as_recipe_says", "as_recorded", "check_as_recorded", "check_one_set", "join", "named_sources"]

_NAMED = re.compile(r"([^=:/]+)=(.+)", re.DOTALL)  # and not rooms:images=400, nor a path


def join(
    names: Iterable[str], recipe: Recipe, open_one: Callable[[str, Recipe], OpenedData[Any]]
) -> JointData:
    """Several sets as one, their training batches drawn as the recipe says.

    Args:
        names: Of the sets.
        recipe: With settings for all of them, and for single ones.
        open_one: Opens a set by its name, under a recipe for it alone.

    Raises:
        UserError: The recipe names a set that is not there, or a set cannot be opened.
    """
    from offramp.data import JointData

    names = [*names]
    _check_names(recipe, names)
    return as_recipe_says(JointData({name: open_one(name, recipe.of_set(name)) for name in names}), recipe)


def as_recipe_says(data: JointData, recipe: Recipe) -> JointData:
    """Opened sets, their training batches drawn as the recipe says.

    Raises:
        UserError: The recipe names a set that is not there.
    """
    from offramp.data import Streams

    _check_names(recipe, [*data.sets])
    return data.drawn(Streams(recipe.streams, recipe.epoch_of, recipe.proportions))


def as_recorded(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The record of a run on one of its sets alone, as far as the set is concerned."""
    settings = Recipe.from_dict(record["recipe"]).of_set(name).to_dict()
    return {"data": record["data"]["sets"][name], "recipe": settings}


def check_as_recorded(data: OpenedData[Any], record: Mapping[str, Any]) -> None:
    """Check that data have the sets of a run, by whose names they are normalised.

    Raises:
        UserError: They have others.
    """
    names = [*record["data"].get("sets", ())]
    if {*getattr(data, "sets", ())} == {*names}:
        return
    if names:
        raise UserError(
            f"the run was trained on several data sets; give one for each of the names {', '.join(names)}"
        )
    raise UserError("the run was trained on one data set; give one to evaluate it on")


def check_one_set(recipe: Recipe, name: str) -> None:
    """Check that a recipe for one data set says nothing of several.

    Raises:
        UserError: It does.
    """
    plain = Recipe()
    for setting in ("streams", "epoch_of", "proportions", "sets"):
        if getattr(recipe, setting) != getattr(plain, setting):
            raise UserError(
                f"{setting} is for several data sets, and there is one, {name}; leave it out, or give a "
                "mapping from names to data sets"
            )


def named_sources(words: Sequence[str]) -> Any:
    """A data source as the command line has it: one word, or several sets as ``name=source``.

    Raises:
        UserError: Several words, and one of them names no set.
    """
    if len(words) == 1 and (not _NAMED.match(words[0]) or os.path.exists(user_path(words[0]))):
        return words[0]
    if len(words) == 1:
        name, source = words[0].split("=", 1)
        raise UserError(
            f"{shown(name)} names the only data set, which needs no name; give {source}, or another set "
            "beside it"
        )
    if unnamed := [word for word in words if not _NAMED.fullmatch(word)]:
        raise UserError(f"several data sets are written NAME=SOURCE each; got {' '.join(unnamed)}")
    sources = dict(word.split("=", 1) for word in words)
    if len(sources) < len(words):
        raise UserError(f"two data sets have one name among {' '.join(words)}; give each a name of its own")
    return sources


def _check_names(recipe: Recipe, names: Sequence[str]) -> None:
    for setting in ("proportions", "sets"):
        for name in getattr(recipe, setting):
            if name not in names:
                raise UserError(
                    f"{setting} names a data set {shown(name)}{guess(name, names)}; there are "
                    f"{', '.join(names)}"
                )
