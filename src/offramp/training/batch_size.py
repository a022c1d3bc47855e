"""Whether batches can be filled, and cut for processes and micro-batches; remedies that meet every demand."""

from __future__ import annotations

from collections.abc import Sized

from offramp.data import JointSplit
from offramp.errors import UserError
from offramp.recipes import Recipe
from offramp.training._joint_sizes import changed, check_parts, remedy_of_parts

__all__ = ["check_batch_size", "remedy"]


def check_batch_size(recipe: Recipe, train: Sized, processes: int = 1) -> None:
    """Whether the training samples fill a batch, and each process gets one for each of its micro-batches.

    Args:
        recipe: With ``batch_size`` and ``accumulate``.
        train: What there is to train on.
        processes: How many share a batch.

    Raises:
        UserError: They do not; what the line proposes is not refused in turn.
    """
    if isinstance(train, JointSplit):
        check_parts(recipe, train, processes)
        return
    images, batch, share = len(train), recipe.batch_size, recipe.batch_size // processes
    if images < batch:
        trouble = f"{images} samples do not fill one batch of {batch}"
    elif batch % processes:
        trouble = f"batch_size {batch} does not divide among {processes} processes"
    elif recipe.micro_batches > share:
        trouble = (
            f"accumulate is {recipe.micro_batches}, and each of the {processes} processes has only {share} "
            "samples of a batch"
        )
    else:
        return
    raise UserError(f"{trouble}; {remedy(recipe, train, processes)}")


def remedy(recipe: Recipe, train: Sized, processes: int = 1) -> str:
    """What to do about a batch: settings near the recipe's with two images or more in each micro-batch."""
    if isinstance(train, JointSplit):
        return remedy_of_parts(recipe, train, processes)
    images, least = len(train), 2 * processes
    if images < least:
        return f"give {least} samples or more"
    batch = max(min(recipe.batch_size, images) // processes * processes, least)
    return f"take {changed(recipe, batch, min(recipe.micro_batches, batch // least))}"
