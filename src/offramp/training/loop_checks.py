"""Settings of the recipe that some loops cannot follow."""

from __future__ import annotations

from offramp.errors import UserError
from offramp.methods import Method
from offramp.training.recipe import Recipe

__all__ = ["check_loop"]


def check_loop(recipe: Recipe, method: Method) -> None:
    """Whether the method's loop can do what the recipe asks for.

    Raises:
        UserError: It is a loop of stages from a common start.
    """
    if not method.loop.own_backward:
        return
    if recipe.own_groups:
        raise UserError(
            f"{method.name!r} fuses what its stages did under one learning rate and decay; "
            "leave out head_lr_factor, head_decay, norm_lr_factor and norm_decay"
        )
    if recipe.average:
        raise UserError(
            f"between the steps of {method.name!r} the net is the scratch pad of a stage, "
            "whose weights make no average; leave average out"
        )
