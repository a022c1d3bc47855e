"""Which operators of a forward pass each of its outputs needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from offramp.flops import memory_of

__all__ = ["Dataflow"]


class Dataflow(TorchDispatchMode):
    """Notes for each operator that runs what it costs, and the operators whose results it reads.

    Memory stands for a tensor, so that a view is the tensor that it looks at, and one that is written in
    place depends on all that has written to it. What comes after a value was read into Python depends on it.

    Args:
        work: Tells how many operations have been counted so far.
    """

    def __init__(self, work: Callable[[], int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._work, self._counted = work, work()
        self._costs: list[int] = []  # of each operator
        self._needs: list[set[int]] = []  # of each operator, those it reads from
        self._reads: list[set[int]] = []  # of each operator, the memory it reads
        self._writers: dict[int, set[int]] = {}  # memory -> the operators that wrote to it
        self._into_python: set[int] = set()
        self._alive: list[Tensor] = []  # lest other tensors get their memory

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator and note it."""
        kwargs = kwargs or {}
        self._settle()
        out = func(*args, **kwargs)
        read = set(map(memory_of, _tensors((args, kwargs))))
        number = len(self._costs)
        self._needs.append(self._written(read) | self._into_python)
        self._reads.append(read)
        self._costs.append(0)
        self._settle()
        if func.__name__.startswith("_local_scalar_dense"):
            self._into_python |= self._needs[-1]
        for memory in set(map(memory_of, _tensors(out))) - read:
            self._writers[memory] = {number}
        for memory in map(memory_of, _tensors(_changed(func, args, kwargs))):
            self._writers[memory] = self._writers.get(memory, set()) | {number}
        self._alive += _tensors(out)
        return out

    def behind(self, outputs: Any) -> tuple[int, set[int]]:
        """What outputs need: operations, and the memory that is read for them."""
        self._settle()
        needed: set[int] = set()
        new = self._written(map(memory_of, _tensors(outputs)))
        while new:
            needed |= new
            new = set().union(*(self._needs[number] for number in new)) - needed
        memory: set[int] = set().union(*(self._reads[number] for number in needed))
        return sum(self._costs[number] for number in needed), memory

    def _settle(self) -> None:
        """Put what has been counted since the last look down to the last operator, or its module."""
        now = self._work()
        if self._costs:
            self._costs[-1] += now - self._counted
        self._counted = now

    def _written(self, memory: Iterable[int]) -> set[int]:
        return set().union(*(self._writers.get(each, ()) for each in memory))


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _changed(func: Any, args: Any, kwargs: Any) -> list[Any]:
    """The arguments that an operator writes to."""
    specified = func._schema.arguments
    given = {spec.name: value for spec, value in zip(specified, args, strict=False)} | kwargs
    return [
        given[spec.name]
        for spec in specified
        if spec.alias_info is not None and spec.alias_info.is_write and spec.name in given
    ]
