"""Inputs that no net reads, refused before a layer stumbles over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from offramp.checks import described
from offramp.errors import UserError

__all__ = ["check_inputs"]


def check_inputs(inputs: Any, also: str = "", *, name: str = "inputs") -> None:
    """Check that inputs hold Tensors, or can be moved to a device, as the batches of other libraries can.

    Args:
        inputs: What a net shall read.
        also: What else could be given, in words.
        name: The argument.

    Raises:
        UserError: They do neither.
    """
    movable = not isinstance(inputs, type) and callable(getattr(inputs, "to", None)) and not callable(inputs)
    held = dict(inputs) if isinstance(inputs, Mapping) else inputs  # of any class, as tokenizers' are
    if not movable and not any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(held)):
        raise UserError(
            f"{name}: {described(inputs)}; give what the net reads, a Tensor or named Tensors{also}"
        )
