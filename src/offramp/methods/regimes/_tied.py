"""Weights that two parts of a net share, of which one would be trained and the other frozen."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from torch import nn

from offramp.errors import UserError

__all__ = ["check_apart"]


def check_apart(trained: Iterable[nn.Module], frozen: Iterable[nn.Module], method: str) -> None:
    """Check that training some parts of a net does not change others.

    Args:
        trained: Parts that are trained.
        frozen: Parts that rest meanwhile.
        method: What messages call the method.

    Raises:
        UserError: They share parameters or buffers.
    """
    if _tensors(trained) & _tensors(frozen):
        raise UserError(
            f"{method} trains parts of a net while others rest, and parts of this net share weights; give "
            "each head and stage weights of its own, or train all of them together, by 'mixed' or 'joint'"
        )


def _tensors(modules: Iterable[nn.Module]) -> set[int]:
    return {id(t) for module in modules for t in itertools.chain(module.parameters(), module.buffers())}
