"""Which operators of a forward pass each of its outputs needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from offramp.counting._roles import (
    arguments,
    changed_by,
    joins,
    moves,
    pieces_of,
    read_by,
    scatters,
    tensors_in,
    touched_by,
)
from offramp.counting._writers import NOBODY, Writers
from offramp.flops import memory_of

__all__ = ["Dataflow"]


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
        self._blends: dict[int, tuple[str, int]] = {}  # operator -> its name, the bytes of its result
        self._unsure: dict[int, str] = {}  # operator -> a blend of which it reads a part
        self._alive: list[Tensor] = []  # so that no other tensors get their memory

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator and note it."""
        kwargs = kwargs or {}
        self._settle()
        out = func(*args, **kwargs)
        named = arguments(func, args, kwargs)
        in_part = scatters(func, named)
        read = read_by(func, args, kwargs, named)
        pieces = pieces_of(func, args, out, read)
        apart = joins(func) or (bool(pieces) and any(map(self._writers.mixed, read)))
        moved = self._moved(func, args, kwargs)
        self._running = self._note([] if apart else read if moved is None else read[1:])
        self._settle()
        if func.__name__.startswith("_local_scalar_dense"):
            self._into_python |= self._needs[-1]
        old = set(map(memory_of, tensors_in((args, kwargs))))
        for each in tensors_in(out):
            if memory_of(each) not in old:
                self._writers.made(each, self._running)
        if moved is not None:
            self._write_by_element(out, [moved], read[:1])
        elif apart:
            for target, sources in pieces:
                self._write_by_element(target, [self._writers.elements(each) for each in sources], sources)
        else:
            if not self._costs[self._running]:
                self._watch(func, in_part, read, [*tensors_in(out), *changed_by(func, named)])
            for each in changed_by(func, named):
                where = touched_by(func, args, kwargs) if in_part else True
                self._writers.wrote(each, self._running, where)
        self._alive += tensors_in(out)
        return out

    def behind(self, outputs: Any) -> tuple[int, set[int], set[str]]:
        """What outputs need: operations, the memory that is read for them, and what may blend too much.

        The last are names of operators of whose results only a part is needed, which may come from a part of
        what they read.
        """
        self._settle()
        needed = self._behind(self._written(tensors_in(outputs)))
        memory: set[int] = set().union(*(self._reads[number] for number in needed))
        parts = {self._unsure[number] for number in needed & self._unsure.keys()}
        return self._cost(needed), memory, parts | self._parts(tensors_in(outputs))

    def _behind(self, new: set[int]) -> set[int]:
        needed: set[int] = set()
        while new:
            needed |= new
            new = set().union(*(self._needs[number] for number in new)) - needed
        return needed

    def _cost(self, operators: set[int]) -> int:
        return sum(self._costs[number] for number in operators)

    def _moved(self, func: Any, args: Any, kwargs: Any) -> np.ndarray[Any, Any] | None:
        """Who wrote each element of the result of an operator that only moves elements; None for others."""
        if not moves(func) or not self._writers.mixed(args[0]):
            return None
        elements = self._writers.elements(args[0])
        if elements is None:
            return None
        found: np.ndarray[Any, Any] = (
            func(torch.from_numpy(elements.copy()).to(args[0].device), *args[1:], **kwargs).cpu().numpy()
        )
        return found

    def _watch(self, func: Any, in_part: bool, read: list[Tensor], results: list[Tensor]) -> None:
        """Note an operator without products that blends parts for which different work was done."""
        assert self._running is not None
        places = not in_part and any(each in func.__name__ for each in ("scatter", "index_put", "index_copy"))
        groups = [self._written(read)] if places else map(self._writers.of, read)
        for numbers in groups:
            works = {self._cost(self._behind({number})) for number in numbers} if len(numbers) > 1 else set()
            if works and works != {self._cost(self._behind(numbers))}:
                self._blends[self._running] = func.__name__, max(map(_extent, results), default=0)
        self._inherit(self._running, self._written(read), results)

    def _inherit(self, number: int, needs: set[int], results: list[Tensor]) -> None:
        """Note that what is made of a blend is one."""
        inherited = needs & self._blends.keys()
        if inherited:
            name = self._blends[min(inherited)][0]
            self._blends.setdefault(number, (name, max(map(_extent, results), default=0)))

    def _parts(self, tensors: Iterable[Tensor]) -> set[str]:
        """Names of the operators that blend, and of whose results the tensors are only parts."""
        blends = [
            (_extent(each), self._blends[n])
            for each in tensors
            for n in self._writers.of(each)
            if n in self._blends
        ]
        return {name for extent, (name, whole) in blends if extent < whole}

    def _settle(self) -> None:
        """Put what has been counted since the last look down to the last operator, or its module."""
        now = self._work()
        if self._running is not None:
            self._costs[self._running] += now - self._counted
        self._counted = now

    def _note(self, read: list[Tensor]) -> int:
        """Note that something reads tensors as they are now, and give it a number."""
        return self._add(self._written(read), read)

    def _add(self, needs: set[int], read: list[Tensor]) -> int:
        for name in self._parts(read):
            self._unsure[len(self._costs)] = name
        self._needs.append(needs | self._into_python)
        self._reads.append(set(map(memory_of, read)))
        self._costs.append(0)
        return len(self._costs) - 1

    def _write_by_element(
        self, target: Tensor, columns: list[np.ndarray[Any, Any] | None], sources: list[Tensor]
    ) -> None:
        """Note that each element of a target was made of the elements of the sources at its place.

        Args:
            target: What was written.
            columns: For each source, who wrote its elements; None where an element has several writers.
            sources: What was read.
        """
        assert self._running is not None
        if not any(map(self._writers.mixed, sources)) or any(column is None for column in columns):
            number = self._add({self._running} | self._written(sources), sources)
            if any(column is None for column in columns):
                self._blends[number] = "an operator on complex numbers", _extent(target)
            self._inherit(number, self._needs[number], [target])
            self._writers.wrote(target, number)
            return
        shape = tuple(target.shape)
        flat = [np.broadcast_to(column, shape).ravel() for column in columns if column is not None]
        code = np.zeros(target.numel(), int)
        for column in flat:  # one code for all elements made by the same operators
            kinds = _ranks(column)
            code = _ranks(code * (kinds.max(initial=0) + 1) + kinds)
        first = np.zeros(code.max(initial=-1) + 1, int)
        first[code] = np.arange(len(code))
        makers = [{self._running} | ({int(column[at]) for column in flat} - {NOBODY}) for at in first]
        numbers = np.array([self._add(each, sources) for each in makers], int)
        for number, each in zip(numbers.tolist(), makers, strict=True):
            self._inherit(number, each, [target])
        self._writers.wrote(target, numbers[code].reshape(shape))

    def _written(self, tensors: Iterable[Tensor]) -> set[int]:
        return set().union(*map(self._writers.of, tensors))


def _ranks(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Each number's place among the different ones, from 0; numbers are small, and -1 or more."""
    places = np.cumsum(np.bincount(numbers + 1, minlength=1) > 0) - 1
    ranks: np.ndarray[Any, Any] = places[numbers + 1]
    return ranks


def _extent(tensor: Tensor) -> int:
    """How many bytes a tensor looks at; what is repeated by a stride of 0 counts once."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.itemsize * math.prod(size for size, stride in sizes if stride)
