"""An input to look at a net with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from offramp.errors import UserError

__all__ = ["Example", "make_sample"]

Example = Tensor | tuple[Tensor, ...] | dict[str, Tensor]


def make_sample(net: nn.Module, n: int, input_size: tuple[int, ...], example: Example | None = None) -> Any:
    """An input of n samples: the rows of ``example``, repeated, or random floats ``[n, *input_size]``.

    Floats have the dtype of the net's first parameter of floats, and all is on the device of that; integers
    stay integers. The values are the same every time, and torch's random state stays as it was.

    Raises:
        UserError: A size that is not positive.
    """
    like = next(filter(Tensor.is_floating_point, net.parameters()), torch.empty(0))
    if example is None:
        if min(input_size, default=1) < 1:
            raise UserError(f"there is no sample of size {tuple(input_size)}; all of its sizes are positive")
        values = torch.randn(n, *input_size, generator=torch.Generator().manual_seed(0))
        return values.to(like)

    def rows(tensor: Tensor) -> Tensor:
        chosen = tensor.detach()[torch.arange(n, device=tensor.device) % len(tensor)]
        return chosen.to(like) if chosen.is_floating_point() else chosen.to(like.device)

    if isinstance(example, Tensor):
        return rows(example)
    if isinstance(example, dict):
        return {name: rows(tensor) for name, tensor in example.items()}
    return tuple(map(rows, example))
