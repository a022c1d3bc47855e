"""Fold batch norms into the convolutions before them, and let activations write over what nobody else reads.

A norm behind a ReLU is folded too, and what is left of both is a bound for each channel. What is left of a
norm goes behind a max pooling of it, where a maximum may be taken first.

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
from offramp.exits._pooling import replace_pooling
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
    kinds = (*_LAYERS, *_ACTIVATIONS, nn.MaxPool2d)
    layers = [layer for layer in module.modules() if type(layer) in kinds and not _hooked(layer)]
    try:
        before, calls = watched(module, _copied(inputs), layers)
    except Exception:  # of a forward that cannot be watched, under torch.func for one
        return
    readers, undo = dict(single_readers(calls)), []
    for layer in [*readers]:
        if layer in readers:
            undo += _fold_behind(module, layer, readers, eager)
    if eager and _on_cpu(before):
        undo += [*pack(module), *replace_pooling(module)]
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
        self.scale, self.shift = _by_channel(norm)

    def forward(self, x: Tensor) -> Tensor:
        """Write over the input, which nobody else reads."""
        return torch.addcmul(self.shift, x, self.scale, out=x)


class _Bound(nn.Module):
    """What is left of a ReLU and the batch norm behind it when scale and shift are folded before them.

    With a the scale and b the shift of a channel, a relu(y) + b is a y + b, but not below b; or not above b,
    where a is negative.

    Args:
        norm: The batch norm, in eval mode.
    """

    def __init__(self, norm: Any) -> None:
        super().__init__()
        scale, shift = _by_channel(norm)
        self.low, self.high = shift.where(scale >= 0, -torch.inf), shift.where(scale <= 0, torch.inf)
        self.from_below = bool((scale > 0).all())

    def forward(self, x: Tensor) -> Tensor:
        """Write over the input, a y + b, which nobody else reads."""
        if self.from_below:
            return torch.maximum(x, self.low, out=x)
        return torch.clamp(x, self.low, self.high, out=x)


def _by_channel(norm: Any) -> tuple[Tensor, Tensor]:
    """Scale and shift of a batch norm in eval mode, ``[C, 1, ...]``."""
    scale = (norm.running_var + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight)
    shift = -norm.running_mean * scale + (0 if norm.bias is None else norm.bias)
    axes = (-1, *(1 for _ in range(_NORMS.index(type(norm)) + 1)))
    return scale.view(axes), shift.view(axes)


def _fold_behind(
    module: nn.Module, layer: Any, readers: dict[nn.Module, nn.Module], eager: bool
) -> list[Callable[[], None]]:
    """Fold the only reader of a layer into it, and return what undoes that.

    Args:
        module: Where they are.
        layer: The layer.
        readers: The only reader of each layer that has one; those that are folded with another are taken out.
        eager: As for :func:`fold`.
    """
    reader: Any = readers[layer]
    fresh = type(layer) in (*_LAYERS, *_ACTIVATIONS)  # what it gives lies in memory of its own
    if type(reader) in _ACTIVATIONS and fresh:
        norm: Any = readers.get(reader)
        if eager and type(layer) in _CONVOLUTIONS and type(reader) is nn.ReLU and _can_be_passed(norm):
            return _fold_past(module, layer, reader, readers)
        if reader.inplace:
            return []
        reader.inplace = True
        return [lambda: setattr(reader, "inplace", False)]
    if type(reader) not in _NORMS or reader.running_mean is None:
        return []
    if type(layer) in _CONVOLUTIONS or (type(layer) is nn.Linear and type(reader) is nn.BatchNorm1d):
        return [_scale(layer, reader), replace(module, reader, nn.Identity())]
    affine = eager and fresh and _can_be_passed(reader)
    return _put_rest(module, reader, _Affine(reader) if affine else reader, readers, rises=_rises(reader))


def _fold_past(
    module: nn.Module, conv: Any, relu: nn.Module, readers: dict[nn.Module, nn.Module]
) -> list[Callable[[], None]]:
    """Fold a norm into a convolution with a ReLU between, and return what undoes that."""
    norm = readers.pop(relu)
    undo = [_scale(conv, norm), replace(module, relu, nn.Identity())]
    return [*undo, *_put_rest(module, norm, _Bound(norm), readers, rises=True)]


def _put_rest(
    module: nn.Module, norm: nn.Module, rest: nn.Module, readers: dict[nn.Module, nn.Module], *, rises: bool
) -> list[Callable[[], None]]:
    """Put what is left of a norm in its place, or behind a max pooling of it, where there is less to do.

    Args:
        module: Where they are.
        norm: The norm.
        rest: What is left of it; the norm itself, if all of it is.
        readers: The only reader of each layer that has one.
        rises: Whether a larger input gives no smaller output: a maximum may be taken before it then.

    Returns:
        What undoes that.
    """
    pool: Any = readers.get(norm)
    if rises and type(pool) is nn.MaxPool2d and not pool.return_indices:
        return [replace(module, norm, nn.Identity()), replace(module, pool, nn.Sequential(pool, rest))]
    return [] if rest is norm else [replace(module, norm, rest)]


def _rises(norm: Any) -> bool:
    """Whether no channel of a norm has a negative weight."""
    return norm.weight is None or bool((norm.weight >= 0).all())


def _can_be_passed(norm: Any) -> bool:
    """Whether a layer is a batch norm of maps, with statistics of its own and in full precision."""
    if type(norm) not in _NORMS[1:] or norm.running_mean is None:
        return False
    return bool(norm.running_mean.itemsize >= 4)


def _scale(layer: Any, norm: Any) -> Callable[[], None]:
    """Let a convolution or linear layer give what a norm behind it would, and return what undoes that."""
    fuse: Any = fuse_linear_bn_weights if type(layer) is nn.Linear else fuse_conv_bn_weights
    weight, bias = layer.weight, layer.bias
    statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    layer.weight, layer.bias = fuse(weight, bias, *statistics)

    def undo() -> None:
        layer.weight, layer.bias = weight, bias

    return undo


def _on_cpu(values: Any) -> bool:
    return all(leaf.device.type == "cpu" for leaf in pytree.tree_leaves(values) if isinstance(leaf, Tensor))


def close(before: Any, after: Any) -> bool:
    """Whether two outputs differ by rounding alone, where they are finite; the second has no other NaN."""
    for a, b in zip(pytree.tree_leaves(before), pytree.tree_leaves(after), strict=True):
        if isinstance(a, Tensor) and a.is_floating_point() and a.numel():
            if (a.isfinite() & b.isnan()).any():
                return False
            finite = a.isfinite() & b.isfinite()
            a, b = torch.where(finite, a, 0), torch.where(finite, b, 0)
            if (a - b).abs().max() > _TOLERANCE.get(a.dtype, 0.05) * a.abs().max():
                return False
    return True
