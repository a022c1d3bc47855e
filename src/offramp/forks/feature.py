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
from torch.utils._pytree import tree_map_only

from offramp.errors import UserError
from offramp.forks.channels import Channels
from offramp.forks.routing import Routing, memory_format

__all__ = [
    "Cut",
    "Feature",
    "branch",
    "cut_of",
    "gateway",
    "implements",
    "join",
    "ordinary",
    "stand_in",
    "with_cut",
]


@dataclass(eq=False)
class Cut:
    """What is known of a feature's gradient.

    Attributes:
        live: The channels whose gradient goes anywhere.
        axis: Of the channels.
        split: Whether readers run two layers and an add, as the authors' VGG does, instead of one.
        source: Which feature it was, for the errors.
        lane: Brings the gradient of the live channels home, ``[N, ..., live, ...]``; made when it is first
            read, if nothing has made it before.
        ancestors: What it was made from; none if it is a fork's.
        version: How often the Tensor had been written to when this was known; None for a view of a fork's
            feature, of whose channels nothing is known.
        was_read: Whether a layer has left out some of the feature's gradient.
        is_watched: Whether somebody wants to see all of it, so that no layer may.
    """

    live: Channels
    axis: int
    split: bool
    source: str
    lane: Tensor | None = None
    ancestors: tuple[Cut, ...] = ()
    version: int | None = field(default=None, init=False)
    was_read: bool = field(default=False, init=False)
    is_watched: bool = field(default=False, init=False)

    def read(self) -> None:
        """Note that a layer leaves out a part of its gradient, and so of what it was made from."""
        for cut in (self, *self.ancestors):
            cut.was_read = True

    def watch(self) -> None:
        """Have all of its gradient computed from now on.

        Raises:
            UserError: It is too late.
        """
        if self.was_read and not self.is_watched:
            raise UserError(
                f"the gradient of {self.source} was asked for after a layer had read it, and part of it is "
                "never computed; ask (register_hook, retain_grad) before the layer runs, or take impl=cat"
            )
        self.is_watched = True

    def derived(
        self, live: Channels, *others: Cut, axis: int | None = None, lane: Tensor | None = None
    ) -> Cut:
        """The cut of what an operation makes of the feature, and of others."""
        ancestors = (self, *self.ancestors)
        for other in others:
            ancestors = (*dict.fromkeys((*ancestors, other, *other.ancestors)),)
        return Cut(live, self.axis if axis is None else axis, self.split, self.source, lane, ancestors)


Handler = Callable[..., Any]  # takes the function's arguments; returns its result, or NotImplemented
_HANDLERS: dict[Any, Handler] = {}
_COMPILED: dict[Any, Handler] = {}  # those that a compiled program follows


def implements(*functions: Any, compiled: bool = False) -> Callable[[Handler], Handler]:
    """Decorator: what these functions do when a :class:`Feature` is among their arguments.

    Args:
        *functions: As ``__torch_function__`` is given them.
        compiled: Whether they do so in a compiled program as well.
    """

    def note(do: Handler) -> Handler:
        _HANDLERS.update(dict.fromkeys(functions, do))
        if compiled:
            _COMPILED.update(dict.fromkeys(functions, do))
        return do

    return note


class Feature(Tensor):
    """A Tensor that may know its :class:`Cut`; operations without a handler return ordinary Tensors.

    Attributes:
        cut: What is known of its gradient.
        twin: The ordinary Tensor that it was made of, and that stands for it in a compiled program.
    """

    cut: Cut
    twin: Tensor

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        compiling = torch.compiler.is_compiling()
        alone = {*types} <= {Feature, Tensor}  # else another subclass has a say as well
        known = (_COMPILED if compiling else _HANDLERS).get(func) if alone else None
        try:
            result = NotImplemented if known is None else known(*args, **kwargs)
            if result is not NotImplemented:
                return result
            if compiling or not alone:  # neither bears a Feature
                args, kwargs = tree_map_only(Feature, twin if compiling else ordinary, (tuple(args), kwargs))
                return func(*args, **kwargs)
            with torch._C.DisableTorchFunctionSubclass():
                result = func(*args, **kwargs)
                return _views(result, args[0].cut) if args and type(args[0]) is Feature else result
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


def twin(x: Tensor) -> Tensor:
    """The ordinary Tensor that the feature was made of; its gradient goes past the feature."""
    if type(x) is not Feature:
        return x
    x.cut.read()
    return x.twin


def gateway(x: Tensor) -> Tensor:
    """The Tensor by which all gradient leaves the feature, what layers left out of it included."""
    return x.twin if type(x) is Feature and not x.cut.is_watched else x


def with_cut(x: Tensor, cut: Cut) -> Tensor:
    """A Tensor that knows its cut; the Tensor itself where the cut has nothing to say.

    Args:
        x: A Tensor whose gradient in the channels that are not live goes nowhere, or is zeroed on its way.
        cut: What is known of it.
    """
    if cut.live.is_all or type(x) not in (Tensor, Feature) or not x.requires_grad:
        return x
    feature = _made_of(x, cut)
    with torch._C.DisableTorchFunctionSubclass():
        cut.version = 0 if torch.compiler.is_compiling() else feature._version
    return feature


def _made_of(x: Tensor, cut: Cut) -> Feature:
    with torch._C.DisableTorchFunctionSubclass():
        feature = x.as_subclass(Feature)
    feature.cut, feature.twin = cut, x.twin if type(x) is Feature else x
    return feature


def cut_of(x: Any) -> Cut | None:
    """What is known of a Tensor's gradient: nothing, once it or a view of it has been written to.

    Nor without gradients, where a lane would lead nowhere, nor if somebody watches what it was made from.
    """
    if type(x) is not Feature or not torch.is_grad_enabled():
        return None
    cut = x.cut
    if torch.compiler.is_compiling():  # which does not tell whether it has been written to; forks' are not
        return None if cut.ancestors or cut.is_watched else cut
    if torch._C._functorch.peek_interpreter_stack() is not None:  # torch.func knows no lanes
        return None
    for each in (cut, *cut.ancestors):
        if each.is_watched:
            return None
    with torch._C.DisableTorchFunctionSubclass():
        return cut if x._version == cut.version else None


def lane_of(x: Tensor, cut: Cut) -> Tensor:
    """The lane that the gradient of a feature's reader takes."""
    if cut.lane is None:
        with torch._C.DisableTorchFunctionSubclass():
            cut.lane = _Lane.apply(x, cut.live, cut.axis)
    return cut.lane


def read(x: Tensor, cut: Cut) -> tuple[Tensor, Tensor]:
    """The value of a feature, without gradient, and its lane."""
    cut.read()
    lane = lane_of(x, cut)
    if torch.compiler.is_compiling():
        return twin(x).detach(), lane
    with torch._C.DisableTorchFunctionSubclass():
        return x.detach(), lane


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


_grad_fn: Any = Tensor.grad_fn.__get__  # type: ignore[union-attr]  # to mypy a Node


@implements(Tensor.register_hook, Tensor.retain_grad, _grad_fn, compiled=True)
def _(x: Any, *_: Any) -> Any:
    """Whoever wants to see a feature's whole gradient gets it: from now on all of it is computed."""
    return _watched(x)


@implements(torch.autograd.grad, compiled=True)
def _(outputs: Any, inputs: Any, *_: Any, **__: Any) -> Any:
    return _watched(inputs)


@implements(torch.autograd.backward, Tensor.backward)
def _(*_: Any, inputs: Any = None, **__: Any) -> Any:
    return _watched(inputs)


def _watched(inputs: Any) -> Any:
    """The gradient with respect to a feature is right unless a layer has left out a part already."""
    for x in inputs if isinstance(inputs, (list, tuple)) else (inputs,):
        if type(x) is Feature:
            x.cut.watch()
            if not torch.compiler.is_compiling():
                x.twin = ordinary(x)  # whose gradient comes by the feature
    return NotImplemented


def _views(result: Any, cut: Cut) -> Any:
    """Views of what a fork hands out stay Features, so that a write to them is refused as one to it is."""
    if cut.ancestors and cut.version is not None:
        return result
    if type(result) in (tuple, list):
        return type(result)(_views(x, cut) for x in result)
    if type(result) is Tensor and result.requires_grad and result._is_view():
        return _made_of(result, cut.derived(cut.live))
    return result


def _overwritten(args: Sequence[Any]) -> str:
    source = next((x.cut.source for x in args if type(x) is Feature), "a feature")
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
