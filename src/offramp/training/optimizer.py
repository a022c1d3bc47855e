"""The optimisers a recipe can name."""

from __future__ import annotations

import torch
from torch import nn

from offramp.training.recipe import Recipe

__all__ = ["build_optimizer"]


def build_optimizer(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD or AdamW over every parameter that trains, with the recipe's weight decay on all of them."""
    parameters = [p for p in net.parameters() if p.requires_grad]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        parameters,
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )
