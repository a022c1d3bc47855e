"""The learning rate as a pure function of the step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math

from offramp.recipes.recipe import Recipe

__all__ = ["learning_rate"]

WARM_UP = 0.3  # share of the one cycle that rises
START = 1 / 25  # where the rise begins, as a share of the peak
END = START / 1e4  # where the fall ends


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The learning rate of one step.

    Args:
        recipe: Its ``lr``, ``schedule``, ``epochs``, ``milestones`` and ``gamma``.
        step: Steps done since the start of the run.
        steps_per_epoch: Steps in an epoch.
    """
    total = recipe.epochs * steps_per_epoch
    if recipe.schedule == "multistep":
        epoch = step // steps_per_epoch
        return recipe.lr * recipe.gamma ** sum(epoch >= m for m in recipe.milestones)
    if recipe.schedule == "cosine":
        return _anneal(recipe.lr, 0.0, step / total)
    if recipe.schedule == "onecycle":  # Smith and Topin, 2018, with half cosines for the straight flanks
        share = (step + 0.5) / total
        if share < WARM_UP:
            return _anneal(recipe.lr * START, recipe.lr, share / WARM_UP)
        return _anneal(recipe.lr, recipe.lr * END, (share - WARM_UP) / (1 - WARM_UP))
    return recipe.lr


def _anneal(start: float, end: float, share: float) -> float:
    """From start to end along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
