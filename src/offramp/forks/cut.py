"""A feature whose gradient returns through some of its channels only, without a copy.

``x[:, :k]`` joined to ``x[:, k:].detach()`` has the right gradient and saves nothing: the layer that
reads it still computes the gradient of every channel. A :class:`Cut` keeps the two apart. Its *value*
is the whole feature, cut off from the graph; its *lane* stands for the live channels in the graph.
A layer that knows cuts (:mod:`offramp.forks.readers`) computes from the value and sends back along the
lane; any other gets :func:`join`, an ordinary Tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from offramp.forks.channels import Channels
from offramp.forks.routing import Routing

__all__ = ["Cut", "branch", "join", "stand_in"]


class Cut(NamedTuple):
    """A feature for one reader.

    Attributes:
        value: ``[N, C, ...]``, without gradient.
        lane: ``[N, live, ...]``, a stand-in through which the gradient of the live channels returns.
            Its values are never read, and it takes no memory.
        live: Which channels those are.
    """

    value: Tensor
    lane: Tensor
    live: Channels


def branch(feature: Tensor, routing: Routing) -> list[Cut]:
    """One cut of the feature for each reader of the routing."""
    lanes = _Branch.apply(feature, routing)
    value = feature.detach()
    return [Cut(value, lane, live) for lane, live in zip(lanes, routing.live, strict=True)]


def join(cut: Cut) -> Tensor:
    """The cut as an ordinary Tensor ``[N, C, ...]``, sharing the feature's memory."""
    return _Join.apply(cut.value, cut.lane, cut.live)


def stand_in(like: Tensor, shape: Sequence[int]) -> Tensor:
    """A Tensor that has a shape but no memory behind it."""
    return like.new_empty(()).expand(tuple(shape))


class _Branch(Function):
    """Feature -> lanes; backward writes the readers' gradients side by side."""

    @staticmethod
    def forward(feature: Tensor, routing: Routing) -> tuple[Tensor, ...]:
        n, _, *rest = feature.shape
        return tuple(stand_in(feature, (n, live.count, *rest)) for live in routing.live)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        feature, ctx.routing = inputs
        ctx.set_materialize_grads(False)
        ctx.shape = feature.shape
        channels_last = feature.dim() == 4 and feature.is_contiguous(memory_format=torch.channels_last)
        ctx.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    @staticmethod
    def backward(ctx, *grads):
        if all(grad is None for grad in grads):
            return None, None
        return ctx.routing.gather(grads, ctx.shape, ctx.memory_format), None


class _Join(Function):
    """(value, lane) -> the value; backward hands the live channels to the lane."""

    @staticmethod
    def forward(value: Tensor, lane: Tensor, live: Channels) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.live = inputs[2]

    @staticmethod
    def backward(ctx, grad):
        return None, ctx.live.of(grad), None
