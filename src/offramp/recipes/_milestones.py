"""Milestones of a recipe that is cut to fewer epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from offramp.say import say

if TYPE_CHECKING:
    from offramp.recipes.recipe import Recipe

__all__ = ["shorter"]


def shorter(recipe: Recipe, epochs: Any) -> dict[str, Any]:
    """What else of a recipe changes with fewer epochs, and a line that says so.

    Milestones keep their share of the training, rounded to whole epochs before the last one; those that meet
    become one. Without room for any, in a single epoch, the learning rate is constant.
    """
    few = isinstance(epochs, int) and not isinstance(epochs, bool) and 1 <= epochs < recipe.epochs
    if recipe.schedule != "multistep" or not few:
        return {}
    was = f"milestones {list(recipe.milestones)} of {recipe.epochs} epochs"
    if epochs == 1:
        say(f"recipe: {was} have no place in 1 epoch: the learning rate is constant")
        return {"schedule": "constant", "milestones": ()}
    scaled = (round(m * epochs / recipe.epochs) for m in recipe.milestones)
    milestones = tuple(sorted({min(max(m, 1), epochs - 1) for m in scaled}))
    say(f"recipe: {was} are {list(milestones)} of {epochs}")
    return {"milestones": milestones}
