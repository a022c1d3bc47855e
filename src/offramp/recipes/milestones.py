"""Milestones of a recipe that is cut to fewer epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from offramp.say import say

__all__ = ["scaled", "shorter"]


def shorter(schedule: str, milestones: Sequence[int], epochs: int, fewer: Any) -> dict[str, Any]:
    """Other settings of a recipe that change with fewer epochs, and a line that says so.

    Milestones keep their share of the training, rounded to whole epochs before the last one; those that meet
    become one. Without room for any, in a single epoch, the learning rate is constant.
    """
    few = isinstance(fewer, int) and not isinstance(fewer, bool) and 1 <= fewer < epochs
    if schedule != "multistep" or not few:
        return {}
    was = f"milestones {list(milestones)} of {epochs} epochs"
    if fewer == 1:
        say(f"recipe: {was} have no place in 1 epoch: the learning rate is constant")
        return {"schedule": "constant", "milestones": ()}
    kept = scaled(milestones, epochs, fewer)
    say(f"recipe: {was} are {list(kept)} of {fewer}")
    return {"milestones": kept}


def scaled(milestones: Sequence[int], epochs: int, fewer: int) -> tuple[int, ...]:
    """Milestones that keep their share of fewer epochs; in a single one there is no place for any."""
    if fewer == 1:
        return ()
    return tuple(sorted({min(max(round(m * fewer / epochs), 1), fewer - 1) for m in milestones}))
