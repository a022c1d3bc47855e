"""Whether each of several data sets fills its part of a batch, and a batch size with which all do."""

from __future__ import annotations

from offramp.data import JointSplit
from offramp.errors import UserError, shown
from offramp.recipes import Recipe

__all__ = ["changed", "check_parts", "remedy_of_parts"]


def check_parts(recipe: Recipe, train: JointSplit, processes: int) -> None:
    """Check that each set fills its part of a batch, which processes and micro-batches divide.

    Args:
        recipe: With ``batch_size`` and ``accumulate``.
        train: The training samples.
        processes: How many share a batch.

    Raises:
        UserError: One does not; what the line proposes is not refused in turn.
    """
    for name, size in train.sizes(recipe.batch_size).items():
        count = len(train.parts[name])
        if not size:
            trouble = f"a batch of {recipe.batch_size} has no sample of {shown(name)} in these proportions"
        elif count < size:
            trouble = f"the {count} training samples of {shown(name)} do not fill its {size} of a batch"
        elif size % processes:
            trouble = (
                f"the {size} samples of {shown(name)} in a batch do not divide among {processes} processes"
            )
        elif recipe.micro_batches > size // processes:
            trouble = (
                f"accumulate is {recipe.micro_batches}, and a batch has only {size // processes} samples of "
                f"{shown(name)} for each process"
            )
        else:
            continue
        raise UserError(f"{trouble}; {remedy_of_parts(recipe, train, processes)}")


def remedy_of_parts(recipe: Recipe, train: JointSplit, processes: int) -> str:
    """Settings near the recipe's with two samples of each set or more in each micro-batch."""
    most = sum(map(len, train.parts.values()))
    near = sorted(range(1, most + 1), key=lambda size: abs(size - recipe.batch_size))
    for accumulate in (recipe.micro_batches, 1):
        for batch_size in near:
            if _fits(train, batch_size, 2 * accumulate, processes):
                return f"take {changed(recipe, batch_size, accumulate)}"
    shortest = min(train.parts, key=lambda name: len(train.parts[name]))
    return f"give more samples of {shown(shortest)}, or take other proportions"


def changed(recipe: Recipe, batch_size: int, accumulate: int) -> str:
    """Those of the two settings that are not the recipe's, as a message shows them."""
    before = {"batch_size": recipe.batch_size, "accumulate": recipe.micro_batches}
    now = {"batch_size": batch_size, "accumulate": accumulate}
    return f"`{', '.join(f'{name}={n}' for name, n in now.items() if n != before[name])}`"


def _fits(train: JointSplit, batch_size: int, least: int, processes: int) -> bool:
    """Whether each set fills its part, and each process gets at least so many samples of it."""
    return all(
        size <= len(train.parts[name]) and size % processes == 0 and size >= least * processes
        for name, size in train.sizes(batch_size).items()
    )
