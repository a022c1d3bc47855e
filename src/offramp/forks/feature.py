"""A feature for one reader: a Tensor to everyone, and a cut to the layers that can save work by it.

``x[:, :k]`` joined to ``x[:, k:].detach()`` has the right gradient and saves nothing: the layer that reads it
still computes the gradient of every channel. A :class:`Feature` has the same values and the same gradient,
for whoever wraps, hooks, detaches or computes with it. What it knows besides is its :class:`Cut`: in which
channels the gradient goes nowhere. Convolutions and linear layers that meet it
(:mod:`~offramp.forks._readers`) never compute that gradient, and what keeps channels apart
(:mod:`~offramp.forks._channelwise`) hands the knowledge on. Every other operation sees the Tensor alone, so a
network needs no tracing, and no layer of it changes.

In the graph, a feature that a fork hands out has two ways back. The lane (:mod:`~offramp.forks._lanes`)
stands for its live channels and brings home the gradient of the layers that read the cut. The Tensor itself
is joined to the lane by an operation whose backward pass keeps the live channels. So the Tensor's own
gradient is whole only if no layer has read it: who asks for it before gets it, who asks after is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from offramp.errors import UserError
from offramp.forks._cut import Cut
from offramp.forks._lanes import lane_of_live

__all__ = ["Feature", "cut_of", "gateway", "implements", "lane_of", "ordinary", "read", "twin", "with_cut"]


Handler = Callable[..., Any]  # takes the function's arguments; returns its result, or NotImplemented
_HANDLERS: dict[Any, Handler] = {}
_COMPILED: dict[Any, Handler] = {}  # those that a compiled program follows


def implements(*functions: Any, compiled: bool = False) -> Callable[[Handler], Handler]:
    """Decorator: register a handler of these functions for arguments among which is a :class:`Feature`.

    Args:
        *functions: As ``__torch_function__`` is given them.
        compiled: Whether they do so in a compiled program as well.
    """

    def register(handler: Handler) -> Handler:
        _HANDLERS.update(dict.fromkeys(functions, handler))
        if compiled:
            _COMPILED.update(dict.fromkeys(functions, handler))
        return handler

    return register


class Feature(Tensor):
    """A Tensor that may know its :class:`Cut`; operations without a handler return ordinary Tensors.

    Attributes:
        cut: In which channels its gradient is dropped.
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
    """The ordinary Tensor that a feature was made of, whose gradient goes past the feature."""
    if type(x) is not Feature:
        return x
    x.cut.read()
    return x.twin


def gateway(x: Tensor) -> Tensor:
    """The Tensor through which all of a feature's gradient passes, also what layers send by its lane."""
    return x.twin if type(x) is Feature and not x.cut.is_watched else x


def with_cut(x: Tensor, cut: Cut) -> Tensor:
    """Attach a cut to a Tensor, which becomes a :class:`Feature`; as it is if all its channels are live.

    Args:
        x: A Tensor whose gradient in the channels that are not live goes nowhere, or is zeroed on its way.
        cut: Its cut.
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
    """The cut of a Tensor that a layer may rely on; None once the Tensor or a view of it was written to.

    Nor is there one without gradients, where a lane would lead nowhere, nor if somebody watches what it was
    made from.
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
            cut.lane = lane_of_live(x, cut.live, cut.axis)
    return cut.lane


def read(x: Tensor, cut: Cut) -> tuple[Tensor, Tensor]:
    """The value of a feature, without gradient, and its lane, for a layer that reads the cut."""
    cut.read()
    lane = lane_of(x, cut)
    if torch.compiler.is_compiling():
        return twin(x).detach(), lane
    with torch._C.DisableTorchFunctionSubclass():
        return x.detach(), lane


_grad_fn: Any = Tensor.grad_fn.__get__  # type: ignore[union-attr]  # to mypy a Node


@implements(Tensor.register_hook, Tensor.retain_grad, _grad_fn, compiled=True)
def _(x: Any, *_: Any) -> Any:
    """Compute a feature's whole gradient from now on, since somebody will look at it."""
    return _watched(x)


@implements(torch.autograd.grad, compiled=True)
def _(outputs: Any, inputs: Any, *_: Any, **__: Any) -> Any:
    return _watched(inputs)


@implements(torch.autograd.backward, Tensor.backward)
def _(*_: Any, inputs: Any = None, **__: Any) -> Any:
    return _watched(inputs)


def _watched(inputs: Any) -> Any:
    """Have the whole gradient of every feature among the inputs computed from now on."""
    for x in inputs if isinstance(inputs, (list, tuple)) else (inputs,):
        if type(x) is Feature:
            x.cut.watch()
            if not torch.compiler.is_compiling():
                x.twin = ordinary(x)  # whose gradient comes by the feature
    return NotImplemented


def _views(result: Any, cut: Cut) -> Any:
    """Make views of a feature Features, so that a write to them is refused as one to the feature is."""
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
