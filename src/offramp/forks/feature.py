"""A feature for one reader: a Tensor to everyone, and a cut to the layers that can save work by it.

``x[:, :k]`` joined to ``x[:, k:].detach()`` has the right gradient and saves nothing: the layer that reads it
still computes the gradient of every channel. A :class:`Feature` has the same values and the same gradient,
for whoever wraps, hooks, detaches or computes with it. What it knows besides is its :class:`Cut`: in which
channels the gradient goes nowhere. Convolutions and linear layers that meet it
(:mod:`~offramp.forks.readers`) never compute that gradient, and what keeps channels apart
(:mod:`~offramp.forks.passing`) hands the knowledge on. Every other operation sees the Tensor alone, so a
network needs no tracing, and no layer of it changes.

In the graph, a feature that a fork hands out has two ways back. The *lane* stands for its live channels; it
has a shape, but no values and no memory, and brings home the gradient of the layers that read the cut. The
Tensor itself is joined to the lane by an operation whose backward pass keeps the live channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from offramp.errors import UserError
from offramp.forks.channels import Channels
from offramp.forks.routing import Routing, memory_format

__all__ = ["Cut", "Feature", "branch", "cut_of", "implements", "join", "ordinary", "stand_in", "with_cut"]


@dataclass
class Cut:
    """What is known of a feature's gradient.

    Attributes:
        live: The channels whose gradient goes anywhere.
        axis: Of the channels.
        split: Whether readers run two layers and an add, as the authors' VGG does, instead of one.
        source: Which feature it was, for the errors.
        lane: Brings the gradient of the live channels home, ``[N, ..., live, ...]``; made when it is first
            read, if nothing has made it before.
        handed_out: Whether it is a fork's, rather than made from one.
        version: How often the Tensor had been written to when this was known.
        was_read: Whether some of its gradient takes the lane.
    """

    live: Channels
    axis: int
    split: bool
    source: str
    lane: Tensor | None = None
    handed_out: bool = False
    version: int = field(default=0, init=False)
    was_read: bool = field(default=False, init=False)


Handler = Callable[..., Any]  # takes the function's arguments; returns its result, or NotImplemented
_HANDLERS: dict[Any, Handler] = {}
_READERS: set[Any] = set()


def implements(*functions: Any, reads: bool = False) -> Callable[[Handler], Handler]:
    """Decorator: what these functions do when a :class:`Feature` is among their arguments.

    Args:
        *functions: As ``__torch_function__`` is given them.
        reads: Whether they return nothing that shares the feature's memory.
    """

    def note(do: Handler) -> Handler:
        _HANDLERS.update(dict.fromkeys(functions, do))
        _READERS.update(functions if reads else ())
        return do

    return note


class Feature(Tensor):
    """A Tensor that may know its :class:`Cut`; operations without a handler return ordinary Tensors."""

    cut: Cut | None = None

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if not {*types} <= {Feature, Tensor}:  # another subclass has a say as well: it meets the Tensor
            args, kwargs = torch.utils._pytree.tree_map_only(Feature, ordinary, (tuple(args), kwargs))
            return func(*args, **kwargs)
        known = _HANDLERS.get(func)
        try:
            result = NotImplemented if known is None else known(*args, **kwargs)
            if result is NotImplemented:
                with torch._C.DisableTorchFunctionSubclass():
                    result = func(*args, **kwargs)
            if torch.compiler.is_compiling() and func not in _READERS:
                _lose_sight(args, result)
            return result
        except RuntimeError as error:
            if "modified inplace" not in str(error):
                raise
            raise UserError(_overwritten(args)) from error

    def __reduce_ex__(self, protocol: Any) -> Any:
        return ordinary(self).__reduce_ex__(protocol)


def ordinary(x: Tensor) -> Tensor:
    """The feature as an ordinary Tensor, with its gradient; any other Tensor as it is."""
    if type(x) is not Feature:
        return x
    with torch._C.DisableTorchFunctionSubclass():
        return x.as_subclass(Tensor)


def with_cut(x: Tensor, cut: Cut) -> Tensor:
    """A Tensor that knows its cut; the Tensor itself where the cut has nothing to say.

    Args:
        x: A Tensor whose gradient in the channels that are not live goes nowhere, or is zeroed on its way.
        cut: What is known of it.
    """
    if cut.live.is_all or type(x) not in (Tensor, Feature) or not x.requires_grad:
        return x
    with torch._C.DisableTorchFunctionSubclass():
        feature = x.as_subclass(Feature)
        if not torch.compiler.is_compiling():
            cut.version = feature._version
    feature.cut = cut
    return feature


def cut_of(x: Any) -> Cut | None:
    """What is known of a Tensor's gradient: nothing, once it or a view of it has been written to.

    Nor without gradients: a lane made then would lead nowhere.
    """
    if type(x) is not Feature or x.cut is None or not torch.is_grad_enabled():
        return None
    if torch.compiler.is_compiling():
        return x.cut
    if torch._C._functorch.peek_interpreter_stack() is not None:  # torch.func knows no lanes
        return None
    with torch._C.DisableTorchFunctionSubclass():
        return x.cut if x._version == x.cut.version else None


def lane_of(x: Tensor, cut: Cut) -> Tensor:
    """The lane that the gradient of a feature's reader takes."""
    with torch._C.DisableTorchFunctionSubclass():
        if cut.lane is None:
            cut.lane = _Lane.apply(x, cut.live, cut.axis)
        cut.was_read = True
        return cut.lane


def read(x: Tensor, cut: Cut) -> tuple[Tensor, Tensor]:
    """The value of a feature, without gradient, and its lane."""
    with torch._C.DisableTorchFunctionSubclass():
        return x.detach(), lane_of(x, cut)


def branch(feature: Tensor, routing: Routing) -> list[Tensor]:
    """A lane for each reader of the routing."""
    return list(_Branch.apply(feature, routing))


def join(value: Tensor, lane: Tensor, live: Channels, axis: int) -> Tensor:
    """An ordinary Tensor with a value, whose gradient takes the lane; it shares the value's memory."""
    return _Join.apply(value, lane, live, axis)


def stand_in(like: Tensor, shape: Sequence[int]) -> Tensor:
    """A Tensor that has a shape but no memory behind it."""
    return like.new_empty(()).expand(tuple(shape))


def resized(shape: Sequence[int], axis: int, length: int) -> tuple[int, ...]:
    """A shape with another length along one axis."""
    return (*shape[:axis], length, *shape[axis + 1 :])


@implements(Tensor.register_hook, Tensor.retain_grad)
def _watched(x: Tensor, *_: Any) -> Any:
    """Whoever wants to see a feature's whole gradient gets it: from now on all of it is computed."""
    _forget(x)
    return NotImplemented


@implements(torch.autograd.grad)
def _differentiated(outputs: Any, inputs: Any, *_: Any, **__: Any) -> Any:
    """A gradient with respect to a feature is right if no layer has taken the short way."""
    for x in inputs if isinstance(inputs, (list, tuple)) else [inputs]:
        _forget(x)
    return NotImplemented


def _lose_sight(args: Sequence[Any], result: Any) -> None:
    """A compiler does not tell whether a Tensor has been written to: assume it of all that could have been.

    What a fork hands out is safe: install() has looked for layers that overwrite it.
    """
    if isinstance(result, Tensor):
        for x in torch.utils._pytree.tree_leaves(list(args)):
            if type(x) is Feature and x is not result and x.cut is not None and not x.cut.handed_out:
                x.cut = None


def _forget(x: Any) -> None:
    if type(x) is not Feature or x.cut is None:
        return
    if x.cut.was_read:
        raise UserError(
            f"the gradient of {x.cut.source} was asked for after a layer had read it, and part of it is "
            "never computed; ask (register_hook, retain_grad) before the layer runs, or take impl=cat"
        )
    x.cut = None


def _overwritten(args: Sequence[Any]) -> str:
    cuts = [x.cut for x in args if type(x) is Feature and x.cut is not None]
    source = cuts[0].source if cuts else "a feature"
    return (
        f"a layer overwrites {source}, and another reader needs it too; make the layer's first operation "
        "work out of place (inplace=False, or x = x + y in place of x += y)"
    )


class _Branch(Function):
    """Feature -> lanes; backward writes the readers' gradients side by side."""

    @staticmethod
    def forward(ctx, feature: Tensor, routing: Routing) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.routing, ctx.shape, ctx.memory_format = routing, feature.shape, memory_format(feature)
        return tuple(stand_in(feature, resized(feature.shape, routing.axis, c.count)) for c in routing.live)

    @staticmethod
    def backward(ctx, *grads):
        if all(grad is None for grad in grads):
            return None, None
        return ctx.routing.gather(grads, ctx.shape, ctx.memory_format), None


class _Join(Function):
    """(value, lane) -> the value; backward hands the live channels to the lane."""

    @staticmethod
    def forward(ctx, value: Tensor, lane: Tensor, live: Channels, axis: int) -> Tensor:
        ctx.live, ctx.axis = live, axis
        return value.view_as(value)

    @staticmethod
    def backward(ctx, grad):
        return None, ctx.live.of(grad, ctx.axis), None, None


class _Lane(Function):
    """Any Tensor -> a lane of its live channels; backward puts zeros in the others."""

    @staticmethod
    def forward(ctx, x: Tensor, live: Channels, axis: int) -> Tensor:
        ctx.routing = Routing.single(live, axis)
        ctx.shape, ctx.memory_format = x.shape, memory_format(x)
        return stand_in(x, resized(x.shape, axis, live.count))

    @staticmethod
    def backward(ctx, grad):
        return ctx.routing.gather([grad], ctx.shape, ctx.memory_format), None, None
