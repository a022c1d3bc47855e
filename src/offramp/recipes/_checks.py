"""What the values of a recipe may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from offramp.checks import is_number, whole
from offramp.data.asked import parse_tasks
from offramp.errors import UserError, an_object, guess, shown

__all__ = ["check_class_weights", "check_labels", "check_milestones", "check_options"]


def check_labels(recipe: Any) -> None:
    """Names of columns, and labels as plain values; lists of labels are kept as lists."""
    if not isinstance(recipe.tokenizer, str | None):
        raise UserError(
            f"tokenizer is {an_object(recipe.tokenizer)}, must be a folder; with an object open the "
            "data yourself: open_data(..., tokenizer=...)"
        )
    for name in ("image", "label", "text"):
        value = getattr(recipe, name)
        if value is not None and not isinstance(value, str):
            raise UserError(f"{name} is {shown(value)}, must be the name of a column")
    if recipe.tasks is not None:
        object.__setattr__(recipe, "tasks", parse_tasks(recipe.tasks))
        if recipe.label is not None:
            raise UserError(
                f"label is {shown(recipe.label)}, the column of one class, and tasks names several columns; "
                "leave label out"
            )
    for name in ("classes", "ignore_label"):
        value = getattr(recipe, name)
        if isinstance(value, tuple):
            object.__setattr__(recipe, name, list(value))
        values = value if isinstance(value, (list, tuple)) else [value]
        if value is not None and not (values and all(map(_is_label, values))):
            raise UserError(f"{name} is {shown(value)}, must be whole numbers or words")
    classes = recipe.classes
    if isinstance(classes, list) and len(set(map(str, classes))) < len(classes):
        raise UserError("classes has a name twice; give each once")
    if classes is not None and not isinstance(classes, list):
        whole(recipe, "classes", 1)


def _is_label(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and abs(value) < 2**63)


def check_class_weights(weights: object) -> None:
    """Check the class weights: factors of 0 or more, or ``"balanced"``."""
    if weights is None or weights == "balanced":
        return
    if not isinstance(weights, (list, tuple)) or not all(is_number(w) and w >= 0 for w in weights):
        raise UserError(
            f"class_weights is {shown(weights)}, must be one number of 0 or more per class, or 'balanced'"
        )
    if not any(weights):
        raise UserError("class_weights are all 0, so that nothing is learned; give a class a weight above 0")


def check_milestones(schedule: str, milestones: Sequence[int], epochs: int) -> None:
    """Check that milestones are growing epochs, within the run if its schedule uses them."""
    whole = all(isinstance(m, int) and not isinstance(m, bool) and m > 0 for m in milestones)
    if not whole or list(milestones) != sorted(set(milestones)):
        raise UserError(f"milestones are {shown(list(milestones))}, must be growing whole numbers above 0")
    if schedule == "multistep" and not milestones:
        raise UserError("schedule multistep needs milestones, e.g. `milestones=[60, 80]`")
    if schedule == "multistep" and milestones[-1] >= epochs:
        raise UserError(f"milestone {milestones[-1]} is not within {epochs} epochs; set milestones that are")


def check_options(options: Mapping[str, Any], fields: list[str]) -> None:
    """Check that keys that are no fields of the recipe are options of some method."""
    from offramp.methods import METHODS

    for key in options:
        if not any(method.named(key) for method in METHODS.values()):
            known = {name for method in METHODS.values() for name in method.options}
            close = guess(key, [*fields, *known])
            raise UserError(
                f"no recipe key or method option {shown(key)}{close}; the recipe has {', '.join(fields)}"
            )
