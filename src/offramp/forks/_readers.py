"""Layers that read a cut and never compute the gradient of the channels that are not live.

The forward pass is the ordinary layer's, to the operator. In the backward pass a convolution's
``grad_weight`` comes from the whole input and its ``grad_input`` from ``weight[:, live]`` alone: this is
where Deep Feature Surgery saves its operations (ECCV 2024, Eq 13: the products with beta).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from offramp.autograd import Function
from offramp.forks._channels import Channels
from offramp.forks._cut import Cut
from offramp.forks._gradient_sum import memory_format
from offramp.forks._lanes import join
from offramp.forks.feature import cut_of, implements, read, twin

_convolution_backward = torch.ops.aten.convolution_backward.default


def _convolution(convolve: Callable[..., Tensor], spatial: int) -> Callable[..., Any]:
    """The handler for an ungrouped convolution over so many axes, with its padding in numbers."""

    def reading(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Any:
        cut = cut_of(input)
        if cut is None or cut.axis != 1 or input.dim() != spatial + 2 or groups != 1 or padding == "same":
            return NotImplemented
        padding = 0 if padding == "valid" else padding
        geometry = tuple(_each(value, spatial) for value in (stride, padding, dilation))

        def layer(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return convolve(x, weight, bias, *geometry)

        if cut.split:
            return _split(layer, input, cut, weight, bias)
        value, lane = read(input, cut)
        value, weight, bias = _autocast(value, weight, bias)
        return _Convolution.apply(value, lane, weight, bias, cut.live, geometry, convolve)

    return reading


implements(torch.conv1d, compiled=True)(_convolution(F.conv1d, 1))
implements(torch.conv2d, compiled=True)(_convolution(F.conv2d, 2))
implements(torch.conv3d, compiled=True)(_convolution(F.conv3d, 3))


@implements(F.linear, compiled=True)
def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    cut = cut_of(input)
    if cut is None or cut.axis != input.dim() - 1 or weight.dim() != 2:
        return NotImplemented
    if cut.split:
        return _split(F.linear, input, cut, weight, bias)
    value, lane = read(input, cut)
    value, weight, bias = _autocast(value, weight, bias)
    return _Linear.apply(value, lane, weight, bias, cut.live)


def _split(layer: Callable[..., Tensor], x: Tensor, cut: Cut, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The layer on the live channels plus the layer on the others, detached."""
    cut.read()
    if torch.compiler.is_compiling():
        x = twin(x)
    with torch._C.DisableTorchFunctionSubclass():
        if not cut.live.count:
            return layer(x.detach(), weight, bias)
        moving = layer(cut.live.of(x, cut.axis), cut.live.of(weight, 1), bias)
        dead = cut.live.rest()
        return moving + layer(dead.of(x, cut.axis).detach(), dead.of(weight, 1), None)


class _Convolution(Function):
    @staticmethod
    def forward(
        ctx: Any,
        value: Tensor,
        lane: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        live: Channels,
        geometry: Sequence[tuple[int, ...]],
        convolve: Callable[..., Tensor],
    ) -> Tensor:
        ctx.live, ctx.geometry = live, geometry
        ctx.bias_sizes = None if bias is None else list(bias.shape)
        ctx.save_for_backward(value, lane, weight)
        return convolve(value, weight, bias, *geometry)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        value, lane, weight = ctx.saved_tensors
        _, to_lane, to_weight, to_bias, *_ = ctx.needs_input_grad
        rest = (*map(list, ctx.geometry), False, [0] * len(ctx.geometry[0]), 1)
        grad_lane = grad_weight = grad_bias = None
        if to_lane:
            # Only the shape of the input matters to its gradient, and the backend wants it dense.
            shape = torch.empty(
                lane.shape, dtype=grad.dtype, device=grad.device, memory_format=memory_format(value)
            )
            mask = [True, False, False]
            grad_lane = _convolution_backward(grad, shape, ctx.live.of(weight, 1), None, *rest, mask)[0]
        if to_weight or to_bias:
            value = _in_graph(value, lane, ctx.live, 1)
            mask = [False, to_weight, to_bias]
            _, grad_weight, grad_bias = _convolution_backward(
                grad, value, weight, ctx.bias_sizes, *rest, mask
            )
        return None, grad_lane, grad_weight, grad_bias, None, None, None


class _Linear(Function):
    @staticmethod
    def forward(
        ctx: Any, value: Tensor, lane: Tensor, weight: Tensor, bias: Tensor | None, live: Channels
    ) -> Tensor:
        ctx.live = live
        ctx.save_for_backward(value, lane, weight)
        return F.linear(value, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        value, lane, weight = ctx.saved_tensors
        _, to_lane, to_weight, to_bias, _ = ctx.needs_input_grad
        value = _in_graph(value, lane, ctx.live, value.dim() - 1)
        rows = grad.reshape(-1, grad.shape[-1])
        return (
            None,
            grad @ ctx.live.of(weight, 1) if to_lane else None,
            rows.t() @ value.reshape(-1, value.shape[-1]) if to_weight else None,
            rows.sum(0) if to_bias else None,
            None,
        )


def _in_graph(value: Tensor, lane: Tensor, live: Channels, axis: int) -> Tensor:
    """The value with its live channels in the graph again, where a second derivative will be wanted."""
    return join(value, lane, live, axis) if torch.is_grad_enabled() else value


def _autocast(value: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """What autocast would do to a layer's arguments; inside a Function it no longer can."""
    kind = value.device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return value, weight, bias
    dtype = torch.get_autocast_dtype(kind)

    def cast(x: Tensor) -> Tensor:
        return x if x.dtype == torch.float64 else x.to(dtype)  # autocast leaves float64 alone

    return cast(value), cast(weight), None if bias is None else cast(bias)


def _each(value: Any, spatial: int) -> tuple[int, ...]:
    """One number for each axis, of one number or of as many."""
    numbers = tuple(map(int, value)) if isinstance(value, (tuple, list)) else (int(value),)
    return numbers * spatial if len(numbers) == 1 else numbers
