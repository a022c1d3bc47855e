"""Fold batch norms into the convolutions before them, and let activations write over what nobody else reads.

Who reads what is seen in a forward pass, and what is not seen there (a compiled or scripted part) cannot be
told from a single reader: a module whose outputs the folding changes is left as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights
from torch.utils import _pytree as pytree

from offramp.exits._packing import pack
from offramp.exits._pooling import pool_pairwise
from offramp.exits._readers import single_readers, watched
from offramp.exits._replacing import replace

__all__ = ["close", "fold"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.SiLU, nn.Mish, nn.LeakyReLU, nn.ELU)
# no subclasses, which may do anything
_LAYERS = (*_CONVOLUTIONS, nn.Linear, *_NORMS)
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}  # of the largest value; of narrower dtypes 5 %


def fold(module: nn.Module, *inputs: Any, eager: bool = True) -> None:
    """Fold what can be folded in a module, in place.

    Args:
        module: It is in eval mode, and nobody else's.
        inputs: What it is called with, to see.
        eager: It will run as it is. A compiler does for itself what else is done: norms that cannot be folded
            become one pass over memory, and on a CPU convolutions keep packed weights.
    """
    kinds = (*_LAYERS, *_ACTIVATIONS)
    layers = [layer for layer in module.modules() if type(layer) in kinds and not _hooked(layer)]
    try:
        before, calls = watched(module, _copied(inputs), layers)
    except Exception:  # of a forward that cannot be watched, under torch.func for one
        return
    pairs = single_readers(calls)
    undo = [step for source, reader in pairs for step in _fold_pair(module, source, reader, eager)]
    if eager and _on_cpu(before):
        undo += [*pack(module), *pool_pairwise(module)]
    if undo and not _gives(module, inputs, before):
        for step in reversed(undo):
            step()


def _gives(module: nn.Module, inputs: tuple[Any, ...], expected: Any) -> bool:
    """Whether a module gives what it should, within rounding."""
    try:
        return close(expected, module(*_copied(inputs)))
    except Exception:  # of a forward that calls a layer in a way that a folded one does not take
        return False


def _hooked(layer: nn.Module) -> bool:
    """Whether a hook may change what a layer reads or gives."""
    return bool(layer._forward_pre_hooks or layer._forward_hooks)


def _copied(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Inputs that a module may write over."""
    copied: tuple[Any, ...] = pytree.tree_map_only(Tensor, torch.clone, inputs)
    return copied


class _Affine(nn.Module):
    """A batch norm in eval mode, as one product and sum for each channel.

    Args:
        norm: What it computes.
    """

    def __init__(self, norm: Any) -> None:
        super().__init__()
        scale = (norm.running_var + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight)
        shift = -norm.running_mean * scale + (0 if norm.bias is None else norm.bias)
        axes = (-1, *(1 for _ in range(_NORMS.index(type(norm)) + 1)))
        self.scale, self.shift = scale.view(axes), shift.view(axes)

    def forward(self, x: Tensor) -> Tensor:
        """Write over the input, which nobody else reads."""
        return torch.addcmul(self.shift, x, self.scale, out=x)


def _fold_pair(module: nn.Module, source: nn.Module, reader: Any, eager: bool) -> list[Callable[[], None]]:
    """Fold a layer and its only reader; what undoes it."""
    fresh = type(source) in (*_LAYERS, *_ACTIVATIONS)  # what it gives lies in memory of its own
    if type(reader) in _ACTIVATIONS and fresh and not reader.inplace:
        reader.inplace = True
        return [lambda: setattr(reader, "inplace", False)]
    if type(reader) not in _NORMS or reader.running_mean is None:
        return []
    if type(source) in _CONVOLUTIONS:
        fuse: Any = fuse_conv_bn_weights
    elif type(source) is nn.Linear and type(reader) is nn.BatchNorm1d:
        fuse = fuse_linear_bn_weights
    elif eager and fresh and type(reader) is not nn.BatchNorm1d and reader.running_mean.itemsize >= 4:
        return [replace(module, reader, _Affine(reader))]
    else:
        return []
    weight, bias = source.weight, source.bias
    statistics = (reader.running_mean, reader.running_var, reader.eps, reader.weight, reader.bias)
    source.weight, source.bias = fuse(weight, bias, *statistics)

    def undo() -> None:
        source.weight, source.bias = weight, bias

    return [undo, replace(module, reader, nn.Identity())]


def _on_cpu(values: Any) -> bool:
    return all(leaf.device.type == "cpu" for leaf in pytree.tree_leaves(values) if isinstance(leaf, Tensor))


def close(before: Any, after: Any) -> bool:
    """Whether two outputs differ by rounding alone, where they are finite."""
    for a, b in zip(pytree.tree_leaves(before), pytree.tree_leaves(after), strict=True):
        if isinstance(a, Tensor) and a.is_floating_point() and a.numel():
            finite = a.isfinite() & b.isfinite()
            a, b = torch.where(finite, a, 0), torch.where(finite, b, 0)
            if (a - b).abs().max() > _TOLERANCE.get(a.dtype, 0.05) * a.abs().max():
                return False
    return True
