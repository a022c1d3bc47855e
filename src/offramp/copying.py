"""Copies of modules, and of values, whatever a forward pass has left in them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["deep_copy", "unexpanded", "values_kept"]

_Copied = TypeVar("_Copied")


def deep_copy(value: _Copied, memo: dict[int, Any] | None = None) -> _Copied:
    """Like ``copy.deepcopy``, also of modules that keep a result of their last forward pass.

    ``copy.deepcopy`` refuses Tensors that have a history in autograd, such as the attention biases that LeViT
    caches, or a weight under the old ``weight_norm``. Here the copy has their values, without the history.
    Nor is one left in the parameters of a scripted part, which torch clones.

    Args:
        value: A module, or modules in a tuple, list or dict.
        memo: What has been copied, by id, as for ``copy.deepcopy``.
    """
    memo = {} if memo is None else memo
    memo.update(_kept_results(value))
    with torch.no_grad():
        copied = copy.deepcopy(value, memo)
    for part in _parts(value):
        if isinstance(part, torch.jit.ScriptModule):
            for ours, theirs in zip(memo[id(part)].parameters(), part.parameters(), strict=True):
                ours.requires_grad_(theirs.requires_grad)
    return copied


def _kept_results(value: Any) -> dict[int, Any]:
    """Copies of the Tensors with a history in autograd, by id."""
    tensors = (item for item in _parts(value) if isinstance(item, Tensor))
    return {id(tensor): tensor.detach().clone() for tensor in tensors if not tensor.is_leaf}


def _parts(value: Any) -> Iterator[Tensor | nn.Module]:
    """The Tensors and modules in a value, each once."""
    met: set[int] = set()
    left = [value]
    while left:
        item = left.pop()
        if id(item) in met:
            continue
        met.add(id(item))
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, nn.Module):
            yield item
            left += vars(item).values()
        elif isinstance(item, Mapping):
            left += item.values()
        elif isinstance(item, (tuple, list, set)):
            left += item


def values_kept(tensor: Tensor) -> Callable[[], None]:
    """Copy a Tensor's values; return a function that restores them, and where and how they lie in memory.

    Autograd, whose graphs may have saved the Tensor, does not see it restored.
    """
    data, values = tensor.data, unexpanded(tensor.detach()).clone()

    def put_back() -> None:
        tensor.data = data  # observers give theirs a shape when they first run
        with torch.inference_mode(data.is_inference()):  # else torch refuses to write to such a Tensor
            unexpanded(data).copy_(values)

    return put_back


def unexpanded(tensor: Tensor) -> Tensor:
    """A view of each element once, as before ``expand``: torch does not write where elements share memory."""
    if tensor.layout is torch.strided:
        for axis, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
            if size > 1 and stride == 0:
                tensor = tensor.narrow(axis, 0, 1)
    return tensor
