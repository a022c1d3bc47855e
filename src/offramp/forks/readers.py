"""Layers that read a cut feature and never compute the gradient of the channels that are not live.

The forward pass is the ordinary layer's, to the operator. In the backward pass a convolution's
``grad_weight`` comes from the whole input and its ``grad_input`` from ``weight[:, live]`` alone: this is
where Deep Feature Surgery saves its operations (ECCV 2024, Eq 13: the products with beta).

A layer becomes a reader by a change of class, so that parameters, names and state_dict stay. A layer with
hooks of its own is left alone, since they could not know what to do with a cut.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from offramp.forks.cut import Cut, branch, join, stand_in
from offramp.forks.routing import Routing

__all__ = ["FINAL", "PASSING", "READERS", "Conv2dReader", "LinearReader", "reader_of"]

_convolution_backward = torch.ops.aten.convolution_backward.default


class Conv2dReader(nn.Conv2d):
    """An ungrouped, zero-padded convolution of a cut."""

    routing: Routing  # of an ordinary Tensor: channels that are not live get a zero gradient

    def forward(self, input: Tensor | Cut) -> Tensor:  # noqa: D102
        cut = input if isinstance(input, Cut) else branch(input, self.routing)[0]
        value, weight, bias = _autocast(cut.value, self.weight, self.bias)
        geometry = (self.stride, self.padding, self.dilation)
        return _Conv2d.apply(value, cut.lane, weight, bias, cut.live, geometry)


class LinearReader(nn.Linear):
    """A linear layer on a cut ``[N, C]``."""

    routing: Routing  # of an ordinary Tensor: channels that are not live get a zero gradient

    def forward(self, input: Tensor | Cut) -> Tensor:  # noqa: D102
        cut = input if isinstance(input, Cut) else branch(input, self.routing)[0]
        value, weight, bias = _autocast(cut.value, self.weight, self.bias)
        return _Linear.apply(value, cut.lane, weight, bias, cut.live)


class GlobalPoolReader(nn.AdaptiveAvgPool2d):
    """Global average pooling: a cut ``[N, C, H, W]`` in, a cut ``[N, C, 1, 1]`` out."""

    def forward(self, x: Tensor | Cut) -> Tensor | Cut:  # type: ignore[override]
        if not isinstance(x, Cut):
            return super().forward(x)
        return Cut(super().forward(x.value), _PoolLane.apply(x.lane), x.live)


class FlattenReader(nn.Flatten):
    """Flattening: a pooled cut ``[N, C, 1, 1]`` in, a cut ``[N, C]`` out; whole maps are joined first."""

    def forward(self, x: Tensor | Cut) -> Tensor | Cut:  # type: ignore[override]
        if not isinstance(x, Cut):
            return super().forward(x)
        if x.value.shape[2:].numel() > 1:
            return super().forward(join(x))
        return Cut(super().forward(x.value), super().forward(x.lane), x.live)


FINAL: dict[type[nn.Module], type[nn.Module]] = {nn.Conv2d: Conv2dReader, nn.Linear: LinearReader}
PASSING: dict[type[nn.Module], type[nn.Module]] = {
    nn.AdaptiveAvgPool2d: GlobalPoolReader,
    nn.Flatten: FlattenReader,
}
READERS = FINAL | PASSING


class _Conv2d(Function):
    @staticmethod
    def forward(value, lane, weight, bias, live, geometry):
        return F.conv2d(value, weight, bias, *geometry)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        value, lane, weight, bias, ctx.live, ctx.geometry = inputs
        ctx.bias_sizes = None if bias is None else list(bias.shape)
        ctx.save_for_backward(value, lane, weight)

    @staticmethod
    def backward(ctx, grad):
        value, lane, weight = ctx.saved_tensors
        _, to_lane, to_weight, to_bias, *_ = ctx.needs_input_grad
        rest = (*map(_pair, ctx.geometry), False, [0, 0], 1)
        if to_lane:
            # Only the shape of the input matters to its gradient, and the backend wants it dense.
            shape = torch.empty(
                lane.shape, dtype=grad.dtype, device=grad.device, memory_format=_memory_format(value)
            )
            mask = [True, False, False]
            grad_lane = _convolution_backward(grad, shape, ctx.live.of(weight), None, *rest, mask)[0]
        if to_weight or to_bias:
            # The join puts the live channels back into the graph for a second derivative.
            value = join(Cut(value, lane, ctx.live)) if torch.is_grad_enabled() else value
            mask = [False, to_weight, to_bias]
            _, grad_weight, grad_bias = _convolution_backward(
                grad, value, weight, ctx.bias_sizes, *rest, mask
            )
        return (
            None,
            grad_lane if to_lane else None,
            grad_weight if to_weight else None,
            grad_bias if to_bias else None,
            None,
            None,
        )


class _Linear(Function):
    @staticmethod
    def forward(value, lane, weight, bias, live):
        return F.linear(value, weight, bias)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        value, lane, weight, _, ctx.live = inputs
        ctx.save_for_backward(value, lane, weight)

    @staticmethod
    def backward(ctx, grad):
        value, lane, weight = ctx.saved_tensors
        _, to_lane, to_weight, to_bias, _ = ctx.needs_input_grad
        value = join(Cut(value, lane, ctx.live)) if torch.is_grad_enabled() else value
        return (
            None,
            grad @ ctx.live.of(weight) if to_lane else None,
            grad.t() @ value if to_weight else None,
            grad.sum(0) if to_bias else None,
            None,
        )


class _PoolLane(Function):
    """The lane of a global mean: its gradient is spread over the map as a view, never written out."""

    @staticmethod
    def forward(lane):
        return stand_in(lane, (*lane.shape[:2], 1, 1))

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.shape = inputs[0].shape

    @staticmethod
    def backward(ctx, grad):
        return (grad / (ctx.shape[2] * ctx.shape[3])).expand(ctx.shape)


def reader_of(module: nn.Module) -> type[nn.Module] | None:
    """The reader class of a layer, or None if it cannot read a cut."""
    kind = type(module)
    if kind is nn.Conv2d and (
        module.groups != 1 or module.padding_mode != "zeros" or module.padding == "same"
    ):
        return None
    if kind is nn.AdaptiveAvgPool2d and module.output_size not in (1, (1, 1)):
        return None
    if kind is nn.Flatten and (module.start_dim, module.end_dim) != (1, -1):
        return None
    if module._forward_pre_hooks or module._forward_hooks or module._backward_hooks:
        return None
    return READERS.get(kind)


def _autocast(value: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """What autocast would do to a layer's arguments; inside a Function it no longer can."""
    kind = value.device.type
    if not torch.is_autocast_enabled(kind):
        return value, weight, bias
    dtype = torch.get_autocast_dtype(kind)

    def cast(x: Tensor) -> Tensor:
        return x if x.dtype == torch.float64 else x.to(dtype)  # autocast leaves float64 alone

    return cast(value), cast(weight), None if bias is None else cast(bias)


def _memory_format(x: Tensor) -> torch.memory_format:
    return (
        torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    )


def _pair(value: tuple[int, int] | str) -> list[int]:
    return [0, 0] if isinstance(value, str) else list(value)  # of the names, "valid" alone gets here
