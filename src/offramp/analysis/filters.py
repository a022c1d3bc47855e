"""Filters of a parameter, and the parameters that outputs share."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from offramp.errors import UserError
from offramp.nets import Net

__all__ = ["Unit", "filter_sums", "shared_owners"]

Unit = Literal["out_channel", "kernel"]


def filter_sums(values: Tensor, unit: Unit = "out_channel") -> Tensor:
    """Sum over each filter of a parameter, of values in the parameter's shape.

    The published diagnostics (DR-MGF, arXiv:2305.19844) take a whole output channel as a filter, the
    paper's text one s x s kernel.

    Args:
        values: A weight ``[m, n, ...]``, or one value per channel ``[m]``, or a scalar.
        unit: ``"out_channel"``: the row ``[n, ...]`` of an output channel; ``"kernel"``: what connects one
            input channel to one output channel. Of a tensor ``[m]`` every element is a filter of both kinds.

    Returns:
        ``[m]``, or ``[m, n]`` for the kernels of a weight.
    """
    axes = 2 if unit == "kernel" and values.dim() > 1 else 1
    if values.dim() == 0:
        return values.reshape(1)
    return values.flatten(axes).sum(-1) if values.dim() > axes else values


def shared_owners(net: Net) -> dict[str, tuple[int, ...]]:
    """The outputs (0-based, ascending) that own each parameter which two or more of them own.

    Raises:
        UserError: The outputs share nothing.
    """
    shared = {name: tuple(sorted(ks)) for name, ks in net.owners().items() if len(ks) > 1}
    if not shared:
        raise UserError(
            f"the outputs of this {type(net).__name__} share no parameter, so nothing can conflict; "
            "diagnose a net with shared weights"
        )
    return shared
