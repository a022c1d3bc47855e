"""Samples on their way through a net: those that leave are taken out, the others are laid out anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

__all__ = ["Flow", "Move", "Rows", "batched_leaves", "has_blocks", "memory", "sent", "stack", "take"]

LARGE = 2**14  # bytes of a block whose copy takes longer than the call


class Flow(NamedTuple):
    """What n samples carry from one step of a net to the next.

    Attributes:
        x: The feature, or the input.
        handed: What the head of the exit before has handed on, its logits in most nets, ``[n, ...]``; None
            before the first.
        state: What the confidence of the exit before has left for the next, ``[n, ...]``, or None.
    """

    x: Any
    handed: Tensor | None = None
    state: Tensor | None = None

    def samples(self, batched: Sequence[bool]) -> int:
        """How many samples there are, by the first leaf of the feature that has a row for each."""
        leaves = zip(pytree.tree_leaves(self.x), batched, strict=True)
        return next(len(leaf) for leaf, has in leaves if has)

    def take(self, rows: Rows, batched: Sequence[bool], movable: Sequence[bool] | None = None) -> Flow:
        """Keep some of the samples.

        Args:
            rows: Which.
            batched: Which leaves of the feature have a row for each sample; the others stay whole.
            movable: Which leaves may be written over; None: none.
        """
        handed = None if self.handed is None else take(self.handed, rows)
        state = None if self.state is None else take(self.state, rows)
        leaves, form = pytree.tree_flatten(self.x)
        taken = [
            take(leaf, rows, movable=may) if has else leaf
            for leaf, has, may in zip(leaves, batched, movable or [False] * len(leaves), strict=True)
        ]
        return Flow(pytree.tree_unflatten(taken, form), handed, state)

    @classmethod
    def join(cls, flows: Sequence[Flow], batched: Sequence[bool]) -> Flow:
        """Lay out the samples of flows between the same two steps as one, in order.

        Args:
            flows: One or more.
            batched: Which leaves of the feature have a row for each sample.

        Raises:
            ValueError: A leaf that belongs to the whole batch is not the same in all of them.
        """
        if len(flows) == 1:
            return flows[0]
        _, form = pytree.tree_flatten(flows[0].x)
        columns = zip(*(pytree.tree_leaves(flow.x) for flow in flows), strict=True)
        leaves = [
            torch.cat(column) if has else _common(column)
            for column, has in zip(columns, batched, strict=True)
        ]
        handed, state = (_cat([flow.handed for flow in flows]), _cat([flow.state for flow in flows]))
        return cls(pytree.tree_unflatten(leaves, form), handed, state)


def batched_leaves(features: Sequence[Any], sizes: Sequence[int]) -> list[bool]:
    """Which leaves of a feature have a row for each sample, and which belong to the whole batch.

    Args:
        features: The feature for batches of different sizes.
        sizes: These sizes.
    """
    leaves = zip(*(pytree.tree_leaves(feature) for feature in features), strict=True)
    return [
        all(isinstance(leaf, Tensor) and leaf.shape[:1] == (n,) for leaf, n in zip(each, sizes, strict=True))
        for each in leaves
    ]


class Move(NamedTuple):
    """A sample that changes its place in a batch."""

    source: int
    target: int


class Rows:
    """Samples of a batch, in the order in which they are wanted.

    Args:
        places: Where they are.
        moves: Those whose place changes, from the last ones of the batch to places that are left; None: the
            order is any.
    """

    def __init__(self, places: Sequence[int], moves: Sequence[Move] | None = None) -> None:
        self.places, self.moves = places, moves
        self._index: Tensor | None = None

    @classmethod
    def staying(cls, leaves: Sequence[bool]) -> Rows:
        """The samples of a batch that stay when others leave.

        The holes that those leave among the first are filled from behind, so that most of the others stay
        where they are.
        """
        places, moves = [*range(leaves.count(False))], []
        filler = len(places)
        for hole in range(len(places)):
            if leaves[hole]:
                filler = leaves.index(False, filler)
                moves.append(Move(filler, hole))
                places[hole] = filler
                filler += 1
        return cls(places, moves)

    def index(self, device: torch.device) -> Tensor:
        """The places, int64 ``[n]``."""
        if self._index is None or self._index.device != device:
            self._index = sent(self.places, device)
        return self._index


def take(x: Tensor, rows: Rows, *, movable: bool = False) -> Tensor:
    """Rows of a Tensor ``[N, ...]`` in the memory format it has.

    Along the slowest axis of memory a row is one block, which is copied as such: quicker on a CPU than
    ``x[rows]`` of a channels-last Tensor (``benchmarks/inference_kernels.py``).

    Args:
        x: The Tensor.
        rows: Which.
        movable: Whether ``x`` may be written over: large blocks are then moved one by one to their new
            places, and those that keep theirs stay where they are.
    """
    blocks, back = _blocks(x)
    if blocks is None:
        return x[rows.index(x.device)]
    if movable and rows.moves is not None and x.device.type == "cpu" and x[0].nbytes >= LARGE:
        for source, target in rows.moves:
            blocks[target].copy_(blocks[source])
        return x[: len(rows.places)]
    return blocks.index_select(0, rows.index(x.device)).permute(back)


def sent(numbers: Sequence[Any], device: torch.device) -> Tensor:
    """Whole numbers as an int64 Tensor on a device, without a wait for that."""
    here = torch.tensor(numbers, dtype=torch.int64)
    if device.type == "cuda":
        here = here.pin_memory()  # a copy from other memory waits for the device
    return here.to(device, non_blocking=True)


def stack(samples: tuple[Tensor, ...]) -> Tensor:
    """Samples ``[...]`` as the rows of one Tensor ``[N, ...]``, in the memory format of the first."""
    order = _slowest_first(samples[0])
    if order == [*range(len(order))]:
        return torch.stack(samples)
    back = [1 + order.index(axis) for axis in range(len(order))]
    return torch.stack([sample.permute(order) for sample in samples]).permute(0, *back)


def has_blocks(x: Tensor) -> bool:
    """Whether each row is a block of memory, apart from the others."""
    return _blocks(x)[0] is not None


def memory(tensors: Any) -> set[int]:
    """Where the memory of Tensors begins."""
    leaves = [leaf for leaf in pytree.tree_leaves(tensors) if isinstance(leaf, Tensor)]
    return {leaf.untyped_storage().data_ptr() for leaf in leaves if leaf.layout == torch.strided}


def _blocks(x: Tensor) -> tuple[Tensor | None, list[int]]:
    """A Tensor with its axes from the slowest in memory on, if that is the rows'; and the way back."""
    order = _slowest_first(x)
    if order[0] != 0:
        return None, []
    return x.permute(order), [order.index(axis) for axis in range(x.ndim)]


def _slowest_first(x: Tensor) -> list[int]:
    """The axes of a Tensor from the slowest in memory on."""
    strides = x.stride()
    return sorted(range(x.ndim), key=lambda axis: -strides[axis])  # stable


def _cat(tensors: Sequence[Tensor | None]) -> Tensor | None:
    """Rows of all in one, or None where there are none."""
    given = [tensor for tensor in tensors if tensor is not None]
    return torch.cat(given) if given else None


def _common(values: Sequence[Any]) -> Any:
    """The value that all of these are."""
    first, *others = values
    for other in others:
        same = torch.equal(first, other) if isinstance(first, Tensor) else first == other
        if not same:
            raise ValueError("what a feature carries for the whole batch differs from batch to batch")
    return first
