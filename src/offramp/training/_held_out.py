"""Training samples that are held out of a training, for a loop that looks at others than it trains on."""

from __future__ import annotations

from offramp.data import JointSplit
from offramp.data.batches import Batches
from offramp.data.part import divided
from offramp.errors import UserError
from offramp.recipes.recipe import Recipe
from offramp.training.batch_size import check_batch_size

__all__ = ["batch_size_of", "hold_out"]


def hold_out(train: Batches, share: float, recipe: Recipe, processes: int) -> tuple[Batches, Batches]:
    """Divide the training samples into those to train on and those to look at.

    Args:
        train: All of them.
        share: The share to look at; 0: all of them serve for both.
        recipe: Its batch size and seed.
        processes: How many share a batch.

    Raises:
        UserError: What is left does not fill a batch, or a process would get less than two of the others.
    """
    if not share:
        return train, train
    rest, others = divided(train, share, recipe.seed)
    words = f"held_out={share} of {len(train)} samples"
    if not isinstance(others, JointSplit) and len(others) < 2 * processes:
        raise UserError(
            f"{words} is {len(others)}, and each process needs two; take a larger share, or `held_out=0`, "
            "which looks at training batches"
        )
    try:
        for part in (rest, others) if isinstance(others, JointSplit) else (rest,):
            check_batch_size(recipe, part, processes)
    except UserError as error:
        raise UserError(f"{words}: {error}") from None
    return rest, others


def batch_size_of(others: Batches, recipe: Recipe) -> int:
    """Size of the batches to look at: the recipe's, or all that one data set holds out if that is less."""
    return recipe.batch_size if isinstance(others, JointSplit) else min(recipe.batch_size, len(others))
