"""The tasks of a net's outputs, as a recipe sets them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, cast

import torch

from offramp.errors import UserError, shown
from offramp.nets import Net
from offramp.recipes.recipe import Recipe
from offramp.tasks import Classification, MultiLabel, Task

if TYPE_CHECKING:
    from offramp.data import OpenedData

__all__ = ["tasks_of"]

MIXING = ("mixup", "cutmix")
OF_CLASSES = ("label_smoothing", "class_weights", *MIXING)


def tasks_of(net: Net, recipe: Recipe, data: OpenedData[Any]) -> dict[str, Task]:
    """The task of each output by the output's name; those that classify take the recipe's settings.

    Raises:
        UserError: The recipe has settings of classification that do not fit the net or the data.
    """
    tasks = dict(net.outputs)
    classify = [name for name, task in tasks.items() if isinstance(task, Classification)]
    given = [name for name in OF_CLASSES if getattr(recipe, name)]
    others = [name for name in tasks if name not in classify]
    unmixed = [name for name in others if not isinstance(tasks[name], MultiLabel)]
    for setting in given:
        culprits = unmixed if setting in MIXING else [] if classify else others
        if culprits:
            raise UserError(
                f"{setting} is for classification, and {culprits[0]} has another task; leave it out"
            )
    for name in classify:
        task = cast("Classification", tasks[name])
        weights = None if recipe.class_weights is None else _class_weights(recipe, data, task.target)
        settings: dict[str, Any] = {"label_smoothing": recipe.label_smoothing, "class_weights": weights}
        tasks[name] = dataclasses.replace(task, **{key: value for key, value in settings.items() if value})
    return tasks


def _class_weights(recipe: Recipe, data: OpenedData[Any], key: str) -> list[float]:
    """The weight of each class of a target; balanced, the samples of each class weigh the same in all."""
    classes = data.targets[key].size
    if recipe.class_weights == "balanced":
        labels = data.train.targets[key]
        images = torch.bincount(labels[labels >= 0].cpu(), minlength=classes).double()
        return torch.where(images > 0, images.sum() / (images.count_nonzero() * images), 0).tolist()
    weights = cast("list[float]", recipe.class_weights)
    if len(weights) != classes:
        of_key = "" if len(data.targets) == 1 else f" for {shown(key)}"
        raise UserError(
            f"class_weights are {len(weights)}, {data.name} has {classes} classes{of_key}; give one per class"
        )
    return weights
