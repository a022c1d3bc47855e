"""An input to look at a net with, where its values do not matter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from offramp.errors import UserError, shown

__all__ = ["Example", "checked_size", "make_sample", "sample_of"]

MOST = 2**40  # values of one input
Example = Tensor | tuple[Tensor, ...] | dict[str, Tensor]


def sample_of(net: nn.Module, n: int) -> Any:
    """An input of n samples for any net: of its ``sample(n)``, its ``example`` or its ``input_size``.

    Raises:
        UserError: It has none of them.
    """
    if hasattr(net, "sample"):
        return net.sample(n)  # type: ignore[operator]
    return make_sample(net, n, getattr(net, "input_size", None), getattr(net, "example", None))


def checked_size(size: object) -> tuple[int, ...]:
    """The shape of one input, without the batch axis.

    Raises:
        UserError: It is no list of whole numbers, one is not positive, or the input is beyond any memory.
    """
    given = size if isinstance(size, (tuple, list)) else [size]
    if given is not size or not all(isinstance(n, Integral) and not isinstance(n, bool) for n in given):
        raise UserError(f"input_size is the shape of one input, e.g. (3, 32, 32), got {shown(size)}")
    sizes = tuple(map(int, given))
    if min(sizes, default=1) < 1:
        raise UserError(f"there is no sample of size {shown(sizes)}; all of its sizes are positive")
    if math.prod(sizes) > MOST:
        raise UserError(f"one input of size {shown(sizes)} has more values than any memory; make it smaller")
    return sizes


def make_sample(
    net: nn.Module, n: int, input_size: tuple[int, ...] | None, example: Example | None = None
) -> Any:
    """Make an input of n samples: the rows of ``example``, repeated, or random floats ``[n, *input_size]``.

    Floats have the dtype of the net's first parameter of floats, and all is on the device of that; integers
    stay integers. The values are the same every time, and torch's random state stays as it was.

    Raises:
        UserError: Neither size nor example, or a size that is not positive or beyond any memory.
    """
    if example is None and input_size is None:
        raise UserError(
            f"{type(net).__name__} does not say what its inputs are like; set its `input_size`, the shape of "
            "one input such as (3, 32, 32)"
        )
    like = next(filter(Tensor.is_floating_point, net.parameters()), torch.empty(0))
    if example is None:
        input_size = checked_size(input_size)
        if like.is_meta:  # shapes are all there is
            return torch.empty(n, *input_size, dtype=like.dtype, device="meta")
        values = torch.randn(n, *input_size, generator=torch.Generator().manual_seed(0))
        return values.to(like)

    def rows(tensor: Tensor) -> Tensor:
        chosen = tensor.detach()[torch.arange(n, device=tensor.device) % len(tensor)]
        return chosen.to(like) if chosen.is_floating_point() else chosen.to(like.device)

    if isinstance(example, Tensor):
        return rows(example)
    if isinstance(example, Mapping):
        return {name: rows(tensor) for name, tensor in example.items()}
    return tuple(map(rows, example))
