"""Options of a partition that name exits and channels by their numbers."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence

from offramp.errors import UserError, shown

__all__ = ["exit_numbers", "shared_channels"]


def exit_numbers(where: Sequence[int] | None) -> tuple[int, ...] | None:
    """Exits as plain numbers.

    Raises:
        UserError: They are none.
    """
    if where is None:
        return None
    try:
        exits = tuple(operator.index(exit) for exit in where)
    except TypeError:
        exits = ()
    if not exits:
        raise UserError(f"where names the exits to partition, e.g. [1, 2], got {shown(where)}")
    return exits


def shared_channels(channels: Mapping[int, Sequence[int]] | None) -> dict[int, tuple[int, ...]] | None:
    """Exit -> indices of its shared channels, as plain numbers.

    Raises:
        UserError: It maps something else.
    """
    if channels is None:
        return None
    try:
        return {operator.index(e): tuple(operator.index(c) for c in index) for e, index in channels.items()}
    except (AttributeError, TypeError):
        raise UserError(
            "channels maps exits to the indices of the shared ones, e.g. {1: [0, 2]}, got "
            f"{shown(channels)}"
        ) from None
