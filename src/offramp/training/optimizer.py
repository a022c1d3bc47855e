"""The optimisers a recipe can name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from offramp.recipes.recipe import Recipe

__all__ = ["build_optimizer"]


def build_optimizer(parameters: Iterable[Any], recipe: Recipe) -> torch.optim.Optimizer:
    """SGD or AdamW with the recipe's weight decay; parameters, or groups of them as torch takes them."""
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        parameters,
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )
