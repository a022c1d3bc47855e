"""The tasks of a net's outputs, as a recipe sets them."""

from __future__ import annotations

import dataclasses

from offramp.errors import UserError
from offramp.nets import Net
from offramp.tasks import Classification, Task
from offramp.training.recipe import Recipe

__all__ = ["tasks_of"]


def tasks_of(net: Net, recipe: Recipe) -> dict[str, Task]:
    """The task of each output by the output's name; those that classify take the recipe's settings.

    Raises:
        UserError: The recipe has settings of classification, and no output classifies.
    """
    given = {name: getattr(recipe, name) for name in ("label_smoothing",)}
    given = {name: value for name, value in given.items() if value}
    tasks = dict(net.outputs)
    if given and not any(isinstance(task, Classification) for task in tasks.values()):
        raise UserError(f"recipe: {', '.join(given)} is for classification, and no output classifies")
    return {
        name: dataclasses.replace(task, **given) if isinstance(task, Classification) else task
        for name, task in tasks.items()
    }
