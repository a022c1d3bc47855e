"""Which layers of a module read whose output, seen in a forward pass, however its forward is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

__all__ = ["Call", "single_readers", "watched"]


class Call(NamedTuple):
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


def watched(
    module: nn.Module, inputs: tuple[Any, ...], layers: Sequence[nn.Module]
) -> tuple[Any, list[Call]]:
    """Run a module.

    Args:
        module: The module.
        inputs: What it is called with.
        layers: The layers in it to watch.

    Returns:
        What it returns, and the calls of the layers in their order.
    """
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []

    def see(layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if args:  # as these layers are called, but for a forward that names what it gives
            seen.append((layer, args[0], output))

    handles = [layer.register_forward_hook(see) for layer in layers]
    try:
        with _Readers() as readers:
            output = module(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    readers.read(output)
    return output, [Call(layer, x, y, readers.count[id(y)]) for layer, x, y in seen]


def single_readers(calls: list[Call]) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Layers that each run once, the second alone reading what the first returns."""
    times = Counter(call.layer for call in calls)
    made = {id(call.output): call for call in calls}
    for call in calls:
        source = made.get(id(call.input))
        if source and source.readers == 1 and times[source.layer] == times[call.layer] == 1:
            yield source.layer, call.layer
