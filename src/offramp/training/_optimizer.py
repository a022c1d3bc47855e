"""The optimisers a recipe can name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from offramp.recipes.recipe import Recipe

__all__ = ["build_optimizer"]

ADAPTIVE: dict[str, Any] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def build_optimizer(parameters: Iterable[Any], recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser with its weight decay; parameters, or groups of them as torch takes them."""
    if recipe.optimizer in ADAPTIVE:
        kind = ADAPTIVE[recipe.optimizer]
        adaptive: torch.optim.Optimizer = kind(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
        return adaptive
    return torch.optim.SGD(
        parameters,
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )
