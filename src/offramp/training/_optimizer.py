"""The optimisers a recipe can name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from offramp.recipes.recipe import Recipe

__all__ = ["build_optimizer"]

ADAPTIVE: dict[str, Any] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def build_optimizer(parameters: Iterable[Any], recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser with its weight decay; parameters, or groups of them as torch takes them.

    Its ``load_state_dict`` raises a ValueError at what is of other parameters.
    """
    optimizer: torch.optim.Optimizer
    if recipe.optimizer in ADAPTIVE:
        kind = ADAPTIVE[recipe.optimizer]
        optimizer = kind(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
    else:
        optimizer = torch.optim.SGD(
            parameters,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
        )
    optimizer.register_load_state_dict_post_hook(_check_shapes)
    return optimizer


def _check_shapes(optimizer: torch.optim.Optimizer) -> None:
    """Torch counts the parameters of a state, and does not look at their shapes."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.dim() and value.shape != parameter.shape:
                raise ValueError(
                    f"{name} is {tuple(value.shape)} where a parameter is {tuple(parameter.shape)}"
                )
