"""What an operator does with its arguments: which it reads, which it writes to, and where."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

__all__ = [
    "arguments", "changed_by", "joins", "moves", "pieces_of", "read_by", "scatters", "tensors_in",
    "touched_by",
]  # fmt: skip

_aten = torch.ops.aten
_OVERWRITE = (_aten.copy_, _aten.fill_, _aten.zero_)
_JOIN = (_aten.cat.default, _aten.stack.default)
_MOVE = (
    _aten.index, _aten.index_select, _aten.gather, _aten.take, _aten.flip, _aten.roll, _aten.repeat,
)  # fmt: skip
# write to some elements, and leave the others as they are
_SCATTER = (
    _aten.index_put_, _aten.index_copy_, _aten.index_fill_, _aten.masked_fill_, _aten.masked_scatter_,
    _aten.scatter_,
)  # fmt: skip


def tensors_in(values: Any) -> list[Tensor]:
    """The Tensors in nested lists, tuples and dicts."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def arguments(func: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """The arguments of an operator by their names."""
    names = [specified.name for specified in func._schema.arguments]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def changed_by(func: Any, named: dict[str, Any]) -> list[Tensor]:
    """The arguments that an operator writes to."""
    written = [s.name for s in func._schema.arguments if s.alias_info is not None and s.alias_info.is_write]
    return tensors_in([named.get(name) for name in written])


def joins(func: Any) -> bool:
    """Whether an operator puts tensors side by side."""
    return func in _JOIN


def moves(func: Any) -> bool:
    """Whether elements of an operator's result are elements of its first argument."""
    return func.overloadpacket in _MOVE


def scatters(func: Any, named: dict[str, Any]) -> bool:
    """Whether an operator writes over some elements of its first argument, and leaves the others."""
    adds = named.get("accumulate") or "reduce" in named
    return func.overloadpacket in _SCATTER and not adds


def read_by(func: Any, args: Any, kwargs: Any, named: dict[str, Any]) -> list[Tensor]:
    """The tensors whose values an operator asks for: not those that it only writes to."""
    overwrites = scatters(func, named) or func.overloadpacket in _OVERWRITE
    outs = tensors_in([named.get(s.name) for s in func._schema.arguments if s.is_out])
    given = tensors_in((args[1:] if overwrites else args, kwargs))
    return [each for each in given if all(each is not out for out in outs)]


def pieces_of(func: Any, args: Any, out: Any, read: list[Tensor]) -> list[tuple[Tensor, list[Tensor]]]:
    """Parts of a result and what each is made of, element by element; empty for other operators."""
    if func in _JOIN:
        parts, dim = [each for each in args[0] if each.numel()], args[1] if len(args) > 1 else 0
        stacked = func is _aten.stack.default
        places = out.unbind(dim) if stacked else out.split([each.shape[dim] for each in parts], dim)
        return [(place, [part]) for place, part in zip(places, parts, strict=True)]
    elementwise = torch.Tag.pointwise in func.tags or func.overloadpacket in (_aten.copy_, _aten._to_copy)
    return [(out, read)] if elementwise and isinstance(out, Tensor) else []


def touched_by(func: Any, args: Any, kwargs: Any) -> np.ndarray[Any, Any]:
    """The elements that an operator writes over: those that come out the same whatever they were."""
    zeros = func(torch.zeros_like(args[0]), *args[1:], **kwargs)
    ones = func(torch.ones_like(args[0]), *args[1:], **kwargs)
    touched: np.ndarray[Any, Any] = ~((zeros == 0) & (ones == 1)).cpu().numpy()
    return touched
