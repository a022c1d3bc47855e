"""The tasks of a net's outputs, as a recipe sets them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, cast

import torch

from offramp.errors import UserError
from offramp.nets import Net
from offramp.recipes.recipe import Recipe
from offramp.tasks import Classification, Task

if TYPE_CHECKING:
    from offramp.data import OpenedData

__all__ = ["tasks_of"]


def tasks_of(net: Net, recipe: Recipe, data: OpenedData[Any]) -> dict[str, Task]:
    """The task of each output by the output's name; those that classify take the recipe's settings.

    Raises:
        UserError: The recipe has settings of classification that do not fit the net or the data.
    """
    settings: dict[str, Any] = {}
    if recipe.label_smoothing:
        settings["label_smoothing"] = recipe.label_smoothing
    if recipe.class_weights is not None:
        settings["class_weights"] = _class_weights(recipe, data)
    tasks = dict(net.outputs)
    of_classification = [*settings, *(name for name in ("mixup", "cutmix") if getattr(recipe, name))]
    others = [name for name, task in tasks.items() if not isinstance(task, Classification)]
    if of_classification and others:
        raise UserError(
            f"{of_classification[0]} is for classification, and {others[0]} has another task; leave it out"
        )
    return {
        name: dataclasses.replace(task, **settings) if isinstance(task, Classification) else task
        for name, task in tasks.items()
    }


def _class_weights(recipe: Recipe, data: OpenedData[Any]) -> list[float]:
    """The weight of each class; balanced, the samples of each class weigh the same in all."""
    if recipe.class_weights == "balanced":
        images = torch.bincount(data.train.labels.cpu(), minlength=data.num_classes).double()
        return torch.where(images > 0, images.sum() / (images.count_nonzero() * images), 0).tolist()
    weights = cast("list[float]", recipe.class_weights)
    if len(weights) != data.num_classes:
        raise UserError(
            f"class_weights are {len(weights)}, {data.name} has {data.num_classes} classes; "
            "give one per class"
        )
    return weights
