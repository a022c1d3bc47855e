"""Fold batch norms into the convolutions before them, and let activations write over what nobody else reads.

Which function reads whose output, and how often, is seen in a forward pass, so that it does not matter how a
module's forward is written. What is not seen (a compiled or scripted part) cannot be told from a single
reader: a segment whose outputs the folding changes is left as it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from offramp.exits._packing import pack

__all__ = ["close", "fold"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.SiLU, nn.Mish, nn.LeakyReLU, nn.ELU)
# Weights that stand for the layer's output as they are, in memory that is the output's own. A subclass may
# do anything.
_LAYERS = (*_CONVOLUTIONS, nn.Linear, *_NORMS)
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}  # of the largest value; of narrower dtypes 5 %


def fold(module: nn.Module, *inputs: Any, packed: bool = True) -> None:
    """Fold what can be folded in a module, in place.

    Args:
        module: It is in eval mode, and nobody else's.
        inputs: What it is called with, to see.
        packed: Pack the weights of convolutions on a CPU too.
    """
    before, calls = _watched(module, _copied(inputs))
    undo = [step for source, reader in _single_readers(calls) for step in _fold_pair(module, source, reader)]
    undo += pack(module) if packed else []
    if undo and not close(before, module(*_copied(inputs))):
        for step in reversed(undo):
            step()


def _copied(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Inputs that a module may write over."""
    copied: tuple[Any, ...] = pytree.tree_map_only(Tensor, torch.clone, inputs)
    return copied


class _Call(NamedTuple):
    """A call of a layer: what it read, and what it returned and how many functions have read that."""

    layer: nn.Module
    input: Tensor
    output: Tensor
    readers: int


class _Readers(TorchFunctionMode):
    """Counts how many functions read each Tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()
        self.kept: list[Any] = []  # so that no two Tensors have one id

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(output)):  # not a look at a shape
            self.read((args, kwargs))
        return output

    def read(self, values: Any) -> None:
        """Count each Tensor among the values as read once more."""
        leaves = [leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, Tensor)]
        self.kept += leaves
        self.count.update(map(id, leaves))


def _watched(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, list[_Call]]:
    """What a module returns, and the calls of its layers in their order."""
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []

    def see(layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if args:  # as these layers are called, but for a forward that names what it gives
            seen.append((layer, args[0], output))

    handles = [
        layer.register_forward_hook(see)
        for layer in module.modules()
        if type(layer) in (*_LAYERS, *_ACTIVATIONS)
        and not (layer._forward_pre_hooks or layer._forward_hooks)  # which may change what it gives
    ]
    try:
        with _Readers() as readers:
            output = module(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    readers.read(output)
    return output, [_Call(layer, x, y, readers.count[id(y)]) for layer, x, y in seen]


def _single_readers(calls: list[_Call]) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Layers that each run once, the second alone reading what the first returns."""
    times = Counter(call.layer for call in calls)
    made = {id(call.output): call for call in calls}
    for call in calls:
        source = made.get(id(call.input))
        if source and source.readers == 1 and times[source.layer] == times[call.layer] == 1:
            yield source.layer, call.layer


def _fold_pair(module: nn.Module, source: nn.Module, reader: nn.Module) -> list[Callable[[], None]]:
    """Fold a layer and its only reader; what undoes it."""
    if type(reader) in _ACTIVATIONS and type(source) in _LAYERS and not reader.inplace:
        reader.inplace = True  # type: ignore[assignment]
        return [lambda: setattr(reader, "inplace", False)]
    if type(reader) not in _NORMS or reader.running_mean is None:
        return []
    if type(source) in _CONVOLUTIONS:
        fuse: Any = fuse_conv_bn_weights
    elif type(source) is nn.Linear and type(reader) is nn.BatchNorm1d:
        fuse = fuse_linear_bn_weights
    else:
        return []
    weight, bias = source.weight, source.bias
    statistics = (reader.running_mean, reader.running_var, reader.eps, reader.weight, reader.bias)
    source.weight, source.bias = fuse(weight, bias, *statistics)
    places = [
        (parent, name)
        for parent in module.modules()
        for name, child in parent._modules.items()
        if child is reader
    ]

    def put(layer: nn.Module) -> None:
        for parent, name in places:
            setattr(parent, name, layer)

    def undo() -> None:
        source.weight, source.bias = weight, bias
        put(reader)

    put(nn.Identity())
    return [undo]


def close(before: Any, after: Any) -> bool:
    """Whether two outputs differ by rounding alone."""
    for a, b in zip(pytree.tree_leaves(before), pytree.tree_leaves(after), strict=True):
        if isinstance(a, Tensor) and a.is_floating_point() and a.numel():
            most = _TOLERANCE.get(a.dtype, 0.05) * a.abs().max()
            if not (a - b).abs().max() <= most:
                return False
    return True
