"""Which operators of a forward pass each of its outputs needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from offramp.counting._writers import NOBODY, Writers
from offramp.flops import memory_of

__all__ = ["Dataflow"]

_aten = torch.ops.aten
_FILL = (_aten.fill_, _aten.zero_)
_COPY_INTO = (_aten.copy_,)
_JOIN = (_aten.cat.default, _aten.stack.default)
# write to some elements, and leave the others as they are
_SCATTER = (
    _aten.index_put_, _aten.index_copy_, _aten.index_fill_, _aten.masked_fill_, _aten.masked_scatter_,
    _aten.scatter_,
)  # fmt: skip


class Dataflow(TorchDispatchMode):
    """Notes for each operator that runs what it costs, and the operators whose results it reads.

    Memory stands for tensors, so that views see what is written to each other. An operator counts whole, but
    one that fills a part of a tensor, joins tensors or works element by element does not make an element of
    its result need what only other elements come from. What comes after a value was read into Python depends
    on it.

    Args:
        work: Tells how many operations have been counted so far.
    """

    def __init__(self, work: Callable[[], int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._work, self._counted = work, work()
        self._running: int | None = None  # the operator that ran last
        self._costs: list[int] = []  # of each operator
        self._needs: list[set[int]] = []  # of each operator, those it reads from
        self._reads: list[set[int]] = []  # of each operator, the memory it reads
        self._writers = Writers()
        self._into_python: set[int] = set()
        self._alive: list[Tensor] = []  # lest other tensors get their memory

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator and note it."""
        kwargs = kwargs or {}
        self._settle()
        out = func(*args, **kwargs)
        named = _by_name(func, args, kwargs)
        scatters = _scatters(func, named)
        read = _read(func, args, kwargs, named, scatters or func.overloadpacket in (*_FILL, *_COPY_INTO))
        pieces = _pieces(func, args, out, read)
        apart = func in _JOIN or (bool(pieces) and any(map(self._writers.mixed, read)))
        self._running = self._note([] if apart else read)
        self._settle()
        if func.__name__.startswith("_local_scalar_dense"):
            self._into_python |= self._needs[-1]
        old = set(map(memory_of, _tensors((args, kwargs))))
        for each in _tensors(out):
            if memory_of(each) not in old:
                self._writers.made(each, self._running)
        if apart:
            for target, sources in pieces:
                self._write_by_element(target, sources)
        else:
            for each in _changed(func, named):
                where = _touched(func, args, kwargs) if scatters else True
                self._writers.wrote(each, self._running, where)
        self._alive += _tensors(out)
        return out

    def behind(self, outputs: Any) -> tuple[int, set[int]]:
        """What outputs need: operations, and the memory that is read for them."""
        self._settle()
        needed: set[int] = set()
        new = self._written(_tensors(outputs))
        while new:
            needed |= new
            new = set().union(*(self._needs[number] for number in new)) - needed
        memory: set[int] = set().union(*(self._reads[number] for number in needed))
        return sum(self._costs[number] for number in needed), memory

    def _settle(self) -> None:
        """Put what has been counted since the last look down to the last operator, or its module."""
        now = self._work()
        if self._running is not None:
            self._costs[self._running] += now - self._counted
        self._counted = now

    def _note(self, read: Iterable[Tensor]) -> int:
        """Note that something reads tensors as they are now, and give it a number."""
        read = list(read)
        return self._add(self._written(read), read)

    def _add(self, needs: set[int], read: Iterable[Tensor]) -> int:
        self._needs.append(needs | self._into_python)
        self._reads.append(set(map(memory_of, read)))
        self._costs.append(0)
        return len(self._costs) - 1

    def _write_by_element(self, target: Tensor, sources: list[Tensor]) -> None:
        """Note that each element of a target was made of the elements of the sources at its place."""
        assert self._running is not None
        columns = [self._writers.elements(each) for each in sources]
        if not any(map(self._writers.mixed, sources)) or any(column is None for column in columns):
            number = self._add({self._running} | self._written(sources), sources)
            self._writers.wrote(target, number)
            return
        shape, base = tuple(target.shape), len(self._costs) + 1
        flat = [np.broadcast_to(column, shape).ravel() for column in columns if column is not None]
        code = np.zeros(target.numel(), int)
        for column in flat:  # one code for all elements made by the same operators
            code = np.unique(code * base + column + 1, return_inverse=True)[1].ravel()
        first = np.unique(code, return_index=True)[1]
        makers = [{self._running} | ({int(column[at]) for column in flat} - {NOBODY}) for at in first]
        numbers = np.array([self._add(each, sources) for each in makers], int)
        self._writers.wrote(target, numbers[code].reshape(shape))

    def _written(self, tensors: Iterable[Tensor]) -> set[int]:
        return set().union(*map(self._writers.of, tensors))


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _by_name(func: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    names = [specified.name for specified in func._schema.arguments]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def _changed(func: Any, named: dict[str, Any]) -> list[Tensor]:
    """The arguments that an operator writes to."""
    written = [s.name for s in func._schema.arguments if s.alias_info is not None and s.alias_info.is_write]
    return _tensors([named.get(name) for name in written])


def _scatters(func: Any, named: dict[str, Any]) -> bool:
    """Whether an operator writes over some elements of its first argument, and leaves the others."""
    adds = named.get("accumulate") or "reduce" in named
    return func.overloadpacket in _SCATTER and not adds


def _read(func: Any, args: Any, kwargs: Any, named: dict[str, Any], overwrites: bool) -> list[Tensor]:
    """The tensors whose values an operator asks for: not those that it only writes to."""
    outs = _tensors([named.get(s.name) for s in func._schema.arguments if s.is_out])
    given = _tensors((args[1:] if overwrites else args, kwargs))
    return [each for each in given if all(each is not out for out in outs)]


def _pieces(func: Any, args: Any, out: Any, read: list[Tensor]) -> list[tuple[Tensor, list[Tensor]]]:
    """Parts of a result and what each is made of, element by element; empty for other operators."""
    if func in _JOIN:
        parts, dim = [each for each in args[0] if each.numel()], args[1] if len(args) > 1 else 0
        stacked = func is _aten.stack.default
        places = out.unbind(dim) if stacked else out.split([each.shape[dim] for each in parts], dim)
        return [(place, [part]) for place, part in zip(places, parts, strict=True)]
    elementwise = torch.Tag.pointwise in func.tags or func.overloadpacket in (*_COPY_INTO, _aten._to_copy)
    return [(out, read)] if elementwise and isinstance(out, Tensor) else []


def _touched(func: Any, args: Any, kwargs: Any) -> np.ndarray[Any, Any]:
    """The elements that an operator writes over: those that come out the same whatever they were."""
    zeros = func(torch.zeros_like(args[0]), *args[1:], **kwargs)
    ones = func(torch.ones_like(args[0]), *args[1:], **kwargs)
    touched: np.ndarray[Any, Any] = ~((zeros == 0) & (ones == 1)).cpu().numpy()
    return touched
