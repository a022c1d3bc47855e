"""Whether a module has its values yet."""

from __future__ import annotations

from itertools import chain

from torch import nn
from torch.nn.parameter import is_lazy

from offramp.errors import UserError

__all__ = ["check_values"]


def check_values(module: nn.Module) -> None:
    """Check that all parameters and buffers of a module have values.

    Raises:
        UserError: One is lazy, or on the meta device.
    """
    kind = type(module).__name__
    for name, value in chain(module.named_parameters(), module.named_buffers()):
        if is_lazy(value):
            raise UserError(f"'{name}' of {kind} has no shape yet; run a batch through it first")
        if value.is_meta:
            raise UserError(
                f"'{name}' of {kind} is on the meta device and has no values; "
                "make it on a real device, or call its to_empty(device=...) and load its weights"
            )
