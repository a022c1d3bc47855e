"""Channelwise operations on features: their results have a cut too.

A ReLU, a pooling, a concatenation: a convolution behind one of them need not compute the gradient of its
dead input channels either. An operation that is missing here costs time alone, since its result is an
ordinary Tensor with the right gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from offramp.autograd import Function
from offramp.forks._channels import Channels
from offramp.forks._cut import Cut
from offramp.forks._lanes import stand_in
from offramp.forks.feature import cut_of, implements, lane_of, with_cut

# Value by value, whatever the axis of the channels.
_ELEMENTWISE: tuple[Any, ...] = (
    F.relu, F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu, F.hardswish, F.hardtanh, F.mish, F.softplus,
    F.dropout, F.dropout1d, F.dropout2d, F.dropout3d,
    torch.relu, torch.relu_, torch.sigmoid, torch.tanh, torch.clone,
    Tensor.relu, Tensor.relu_, Tensor.sigmoid, Tensor.tanh, Tensor.clone, Tensor.contiguous, Tensor.view_as,
)  # fmt: skip
# Map by map, where the channels are axis 1; with the number of dimensions of a batch.
_POOLING: dict[Any, int] = {
    torch.avg_pool1d: 3, F.avg_pool2d: 4, F.avg_pool3d: 5,
    F.max_pool1d: 3, F.max_pool2d: 4, F.max_pool3d: 5,
    torch.max_pool1d: 3, torch.max_pool2d: 4, torch.max_pool3d: 5,
    F.adaptive_max_pool1d: 3, F.adaptive_max_pool2d: 4, F.adaptive_max_pool3d: 5,
}  # fmt: skip
_ADAPTIVE: dict[Any, int] = {torch.adaptive_avg_pool1d: 3, F.adaptive_avg_pool2d: 4, F.adaptive_avg_pool3d: 5}


def _call(function: Any, *args: Any, **kwargs: Any) -> Any:
    with torch._C.DisableTorchFunctionSubclass():
        return function(*args, **kwargs)


def _elementwise(function: Any) -> Callable[..., Any]:
    def keep(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        cut = cut_of(input)
        if cut is None:
            return NotImplemented
        result = _call(function, input, *args, **kwargs)
        if (result is input and cut_of(input) is cut) or result.shape != input.shape:
            return result
        return with_cut(result, cut.derived(cut.live))

    return keep


def _pooling(function: Any, dims: int) -> Callable[..., Any]:
    def keep(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        cut = cut_of(input)
        if cut is None or cut.axis != 1 or input.dim() != dims:
            return NotImplemented
        result = _call(function, input, *args, **kwargs)
        return with_cut(result, cut.derived(cut.live)) if isinstance(result, Tensor) else result

    return keep


def _adaptive_pooling(function: Any, dims: int) -> Callable[..., Any]:
    general = _pooling(function, dims)

    def pool(input: Tensor, output_size: Any) -> Any:
        cut = cut_of(input)
        whole = output_size == 1 or (not isinstance(output_size, int) and set(output_size) == {1})
        if cut is None or cut.axis != 1 or input.dim() != dims or not whole:
            return general(input, output_size)
        return _mean(input, cut, lambda x: function(x, output_size), tuple(range(2, dims)), True)

    return pool


for _function in _ELEMENTWISE:
    implements(_function)(_elementwise(_function))
for _function, _dims in _POOLING.items():
    implements(_function)(_pooling(_function, _dims))
for _function, _dims in _ADAPTIVE.items():
    implements(_function)(_adaptive_pooling(_function, _dims))


@implements(torch.mean, Tensor.mean)
def _(input: Tensor, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Any:
    cut = cut_of(input)
    if cut is None or dim is None or dim == () or kwargs:
        return NotImplemented
    dims = tuple(sorted(d % input.dim() for d in ((dim,) if isinstance(dim, int) else dim)))
    if 0 in dims or cut.axis in dims:
        return NotImplemented
    return _mean(input, cut, lambda x: torch.mean(x, dim, keepdim), dims, keepdim)


def _mean(
    x: Tensor, cut: Cut, function: Callable[[Tensor], Tensor], dims: tuple[int, ...], keepdim: bool
) -> Tensor:
    """A mean over whole axes: the gradient is spread over the map as a view, never written out."""
    lane = _MeanLane.apply(lane_of(x, cut), dims, keepdim)
    axis = cut.axis if keepdim else cut.axis - sum(d < cut.axis for d in dims)
    return with_cut(_call(function, x), cut.derived(cut.live, axis=axis, lane=lane))


class _MeanLane(Function):
    """The lane of a mean; its values are never read, so there are none."""

    @staticmethod
    def forward(ctx: Any, lane: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
        ctx.dims, ctx.keepdim, ctx.shape = dims, keepdim, lane.shape
        kept = [1 if i in dims else n for i, n in enumerate(lane.shape) if keepdim or i not in dims]
        return stand_in(lane, kept)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        if not ctx.keepdim:
            for dim in ctx.dims:
                grad = grad.unsqueeze(dim)
        return (grad / math.prod([ctx.shape[d] for d in ctx.dims])).expand(ctx.shape), None, None


@implements(torch.flatten, Tensor.flatten)
def _(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Each channel becomes as many neighbours as its map has values."""
    cut, end = cut_of(input), end_dim % input.dim()
    if cut is None or start_dim % input.dim() != cut.axis:
        return NotImplemented
    live = cut.live.repeated(math.prod(input.shape[cut.axis + 1 : end + 1]))
    lane = lane_of(input, cut).flatten(cut.axis, end)
    return with_cut(_call(torch.flatten, input, cut.axis, end), cut.derived(live, lane=lane))


@implements(Tensor.view, Tensor.reshape, torch.reshape)
def _(input: Tensor, *shape: Any, **kwargs: Any) -> Any:
    """``x.view(N, -1)``, which flattens."""
    cut = cut_of(input)
    sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    if (
        cut is None
        or cut.axis != 1
        or kwargs
        or len(sizes) != 2
        or sizes[0] != input.shape[0]
        or sizes[1] != -1
    ):
        return NotImplemented
    return torch.flatten(input, 1)


@implements(F.pad)
def _(input: Tensor, pad: Sequence[int], *args: Any, **kwargs: Any) -> Any:
    cut = cut_of(input)
    if cut is None or len(pad) // 2 >= input.dim() - cut.axis:
        return NotImplemented
    return with_cut(_call(F.pad, input, pad, *args, **kwargs), cut.derived(cut.live))


@implements(F.interpolate)
def _(input: Tensor, *args: Any, **kwargs: Any) -> Any:
    cut = cut_of(input)
    if cut is None or cut.axis != 1:
        return NotImplemented
    return with_cut(_call(F.interpolate, input, *args, **kwargs), cut.derived(cut.live))


@implements(torch.cat, torch.concat)
def _(tensors: Sequence[Tensor], dim: int = 0, **kwargs: Any) -> Any:
    cuts = [cut_of(x) for x in tensors]
    cut = next((c for c in cuts if c is not None), None)
    if cut is None or kwargs or any(c is not None and c.axis != cut.axis for c in cuts):
        return NotImplemented
    if len({x.dim() for x in tensors}) > 1 or dim % tensors[0].dim() != cut.axis:
        return NotImplemented
    lives = [
        Channels.every(x.shape[cut.axis]) if c is None else c.live for x, c in zip(tensors, cuts, strict=True)
    ]
    live = reduce(Channels.followed_by, lives)
    others = [c for c in cuts if c is not None and c is not cut]
    return with_cut(_call(torch.cat, tensors, dim), cut.derived(live, *others))


@implements(torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__)
def _(input: Any, other: Any, **kwargs: Any) -> Any:
    """A channel of a sum is dead where it is dead in both terms."""
    left, right = cut_of(input), cut_of(other)
    if left is None or right is None or left.axis != right.axis or input.shape != other.shape:
        return NotImplemented
    return with_cut(
        _call(torch.add, input, other, **kwargs), left.derived(left.live.union(right.live), right)
    )
