"""Settings of the recipe that some methods cannot follow."""

from __future__ import annotations

from offramp.errors import UserError, shown
from offramp.forks import Rotation
from offramp.methods import Method
from offramp.recipes.recipe import Recipe

__all__ = ["check_method", "check_samples"]


def check_method(recipe: Recipe, method: Method) -> None:
    """Whether the method can do what the recipe asks for.

    Raises:
        UserError: The recipe cuts batches that the method needs whole, hides features that it needs, or
            names an optimiser that it cannot make its own from; or the method's loop is one of stages from a
            common start, which have no part in average weights or in groups of parameters.
    """
    if (own := method.combiner.own_optimizer) and recipe.optimizer not in own:
        raise UserError(
            f"{shown(method.name)} takes a step of {' or '.join(own)} for each loss, and the recipe's "
            f"optimizer is {recipe.optimizer}; give `optimizer={shown(own[0])}, lr=0.001`"
        )
    if recipe.compile and "junctions" in method.needs:
        raise UserError(
            f"{shown(method.name)} goes back from the features at the net's forks, which compile=true puts "
            "out of reach; leave compile out"
        )
    if recipe.accumulate != 1 and method.whole_batch:
        raise UserError(
            f"accumulate={recipe.accumulate} cuts the batches that {shown(method.name)} needs whole, "
            f"since {' and '.join(method.whole_batch)}; leave accumulate out"
        )
    if not method.loop.staged:
        return
    if recipe.own_groups:
        raise UserError(
            f"{shown(method.name)} fuses what its stages did under one learning rate and decay; "
            "leave out head_lr_factor, head_decay, norm_lr_factor and norm_decay"
        )
    if recipe.average:
        raise UserError(
            f"{shown(method.name)} keeps a stage's temporary weights in the net between steps, which cannot "
            "be averaged; leave average out"
        )


def check_samples(recipe: Recipe, method: Method) -> None:
    """Whether the method can do with outputs for the samples of different data sets.

    Raises:
        UserError: It compares outputs, or gradients at features, for the same samples.
    """
    if recipe.streams != "together":
        return
    if "junctions" in method.needs or any(isinstance(rule, Rotation) for rule in method.forks):
        raise UserError(
            f"{shown(method.name)} compares gradients at the features of the same samples, and each data set "
            "has its own; take mgda, or `streams='in-turn'`"
        )
    if not method.objective.one_by_one:
        raise UserError(
            f"{shown(method.name)} compares outputs for the same samples, and each data set has its own; "
            "take a method without distillation, or one data set with all targets"
        )
