"""What the values of a recipe may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from offramp.errors import UserError, guess

if TYPE_CHECKING:
    from offramp.training.recipe import Recipe

__all__ = ["check_labels", "check_milestones", "check_options", "choice", "number", "whole"]


def whole(recipe: Recipe, name: str, least: int, *, below: int | None = None) -> None:
    """A whole number of at least so much, and below a bound if there is one."""
    value = getattr(recipe, name)
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if not fits or (below is not None and value >= below):
        bound = "" if below is None else f" and below {below}"
        raise UserError(f"recipe: {name} is {value!r}, must be a whole number of at least {least}{bound}")


def number(recipe: Recipe, name: str, bounds: str, allowed: Callable[[float], bool]) -> None:
    """A finite number within bounds; it is kept as a float."""
    value = getattr(recipe, name)
    real = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not real or not allowed(value):
        raise UserError(f"recipe: {name} is {value!r}, must be a number {bounds}")
    object.__setattr__(recipe, name, float(value))  # 1 and 1.0 are the same recipe


def choice(recipe: Recipe, name: str, choices: tuple[str, ...]) -> None:
    """One of a few words."""
    value = getattr(recipe, name)
    if value not in choices:
        raise UserError(
            f"recipe: {name} is {value!r}{guess(value, choices)}; choose from {', '.join(choices)}"
        )


def check_labels(recipe: Recipe) -> None:
    """Names of columns, and labels as plain values; lists of labels are kept as lists."""
    for name in ("image", "label"):
        value = getattr(recipe, name)
        if value is not None and not isinstance(value, str):
            raise UserError(f"recipe: {name} is {value!r}, must be the name of a column")
    for name in ("classes", "ignore_label"):
        value = getattr(recipe, name)
        if isinstance(value, tuple):
            object.__setattr__(recipe, name, list(value))
        values = value if isinstance(value, (list, tuple)) else [value]
        if value is not None and not (values and all(isinstance(v, (bool, int, str)) for v in values)):
            raise UserError(f"recipe: {name} is {value!r}, must be whole numbers or words")
    if isinstance(recipe.classes, list) and len(set(map(str, recipe.classes))) < len(recipe.classes):
        raise UserError("recipe: classes has a name twice; give each once")
    if recipe.classes is not None and not isinstance(recipe.classes, list):
        whole(recipe, "classes", 1)


def check_milestones(recipe: Recipe) -> None:
    """Growing epochs, within the run if its schedule uses them."""
    steps = recipe.milestones
    whole = all(isinstance(m, int) and not isinstance(m, bool) and m > 0 for m in steps)
    if not whole or list(steps) != sorted(set(steps)):
        raise UserError(f"recipe: milestones are {list(steps)}, must be growing whole numbers above 0")
    if recipe.schedule == "multistep" and not steps:
        raise UserError("recipe: schedule multistep needs milestones, e.g. `milestones=[60, 80]`")
    if recipe.schedule == "multistep" and steps[-1] >= recipe.epochs:
        raise UserError(
            f"recipe: milestone {steps[-1]} is not within {recipe.epochs} epochs; set milestones that are"
        )


def check_options(options: Mapping[str, Any], fields: list[str]) -> None:
    """Keys that are no fields of the recipe must be options of some method."""
    from offramp.methods import METHODS

    for key in options:
        if not any(row.named(key) for row in METHODS.values()):
            known = {name for row in METHODS.values() for name in row.options}
            close = guess(key, [*fields, *known])
            raise UserError(
                f"no recipe key or method option {key!r}{close}; the recipe has {', '.join(fields)}"
            )
