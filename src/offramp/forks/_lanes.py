"""Lanes: Tensors without memory that carry a feature's gradient back through the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from offramp.autograd import Function
from offramp.forks._channels import Channels
from offramp.forks._gradient_sum import GradientSum, memory_format

__all__ = ["branch", "join", "lane_of_live", "resized", "stand_in"]


def branch(feature: Tensor, gradient_sum: GradientSum) -> list[Tensor]:
    """Split a feature into one lane for each reader of the gradient sum."""
    return list(_Branch.apply(feature, gradient_sum))


def join(value: Tensor, lane: Tensor, live: Channels, axis: int) -> Tensor:
    """Give a value the gradient of a lane: an ordinary Tensor that shares the value's memory."""
    joined: Tensor = _Join.apply(value, lane, live, axis)
    return joined


def stand_in(like: Tensor, shape: Sequence[int]) -> Tensor:
    """A Tensor with a shape and one element of memory."""
    return like.new_empty(()).expand(tuple(shape))


def resized(shape: Sequence[int], axis: int, length: int) -> tuple[int, ...]:
    """The shape with another length along one axis."""
    return (*shape[:axis], length, *shape[axis + 1 :])


def lane_of_live(x: Tensor, live: Channels, axis: int) -> Tensor:
    """A lane for the live channels of any Tensor, whose other channels get zeros for a gradient."""
    lane: Tensor = _Lane.apply(x, live, axis)
    return lane


class _Branch(Function):
    """Feature -> lanes; backward writes the readers' gradients side by side."""

    @staticmethod
    def forward(ctx: Any, feature: Tensor, gradient_sum: GradientSum) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.gradient_sum, ctx.shape, ctx.memory_format = gradient_sum, feature.shape, memory_format(feature)
        return tuple(
            stand_in(feature, resized(feature.shape, gradient_sum.axis, c.count)) for c in gradient_sum.live
        )

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, None]:
        if all(grad is None for grad in grads):
            return None, None
        return ctx.gradient_sum.gather(grads, ctx.shape, ctx.memory_format), None


class _Join(Function):
    """(value, lane) -> the value; backward hands the live channels to the lane."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, lane: Tensor, live: Channels, axis: int) -> Tensor:
        ctx.live, ctx.axis = live, axis
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None, None]:
        return None, ctx.live.of(grad, ctx.axis), None, None


class _Lane(Function):
    """Any Tensor -> a lane of its live channels; backward puts zeros in the others."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, live: Channels, axis: int) -> Tensor:
        ctx.gradient_sum = GradientSum.single(live, axis)
        ctx.shape, ctx.memory_format = x.shape, memory_format(x)
        return stand_in(x, resized(x.shape, axis, live.count))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.gradient_sum.gather([grad], ctx.shape, ctx.memory_format), None, None
