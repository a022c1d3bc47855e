"""Which channels of which layer's input can carry a gradient, found by looking at the graph.

A fork kills the gradient of some channels. Layers without parameters that keep channels apart (ReLU,
pooling, concatenation, addition, ...) pass dead channels on as dead; a convolution or linear layer that
reads them need not compute their input gradient. What the rules below do not know is taken to revive
every channel, which costs time alone, because the fork itself enforces its gains.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from offramp.forks.readers import FINAL, PASSING, reader_of

__all__ = ["Live", "Liveness", "all_live"]

Live = Any  # bool [C] for a Tensor (its axis 1), a tuple of them for a tuple, None for anything else

_KEEP_CHANNELS: set[Any] = {
    nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Sigmoid, nn.Tanh,
    nn.Dropout, nn.Dropout2d, nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d,
    nn.ZeroPad2d, nn.Upsample,
    F.relu, F.relu6, F.leaky_relu, F.gelu, F.silu, F.hardswish, F.sigmoid, F.tanh, F.dropout, F.avg_pool2d,
    F.max_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d, F.interpolate, torch.relu, torch.sigmoid,
    torch.tanh, "relu", "sigmoid", "tanh", "contiguous", "clone",
}  # fmt: skip
_ADD: set[Any] = {operator.add, operator.iadd, torch.add, "add", "add_"}
_CONCATENATE: set[Any] = {torch.cat, torch.concat}
_FLATTEN: set[Any] = {nn.Flatten, torch.flatten, "flatten"}


@dataclass
class Liveness:
    """What a look at one stage or head after another finds.

    Attributes:
        read: For each layer that can read a cut, the live channels (bool ``[C]``) of its input.
        blind: Layers that are called elsewhere too, or may be: what was seen of them is not all.
    """

    read: dict[nn.Module, Tensor] = field(default_factory=dict)
    blind: set[nn.Module] = field(default_factory=set)

    def follow(self, module: nn.Module, feature: Any, live: Live) -> tuple[Any, Live, list[set[nn.Module]]]:
        """Run one stage or head and follow the live channels through it.

        Args:
            module: The consumer; it is left in eval mode.
            feature: What it reads: a Tensor or a tuple of Tensors.
            live: Which channels of it can carry a gradient.

        Returns:
            Its output; the output's live channels; and for each Tensor of the feature the layers that *seal*
            it, if every way it goes ends at a layer that reads cuts, else none.
        """
        tensors = feature if isinstance(feature, tuple) else (feature,)
        try:
            root = nn.Sequential(module.train())  # wrapped: a module that is one layer must appear as a call
            graph = fx.Tracer().trace(root)
            tracker = _Tracker(fx.GraphModule(root.eval(), graph), live, self)
            output = tracker.run(feature)
        except Exception:  # a user's forward may raise anything under a tracer
            self.blind.update(module.modules())
            output = module.eval()(feature)
            return output, all_live(output), [set() for _ in tensors]
        entry = next(node for node in graph.nodes if node.op == "placeholder")
        seals = []
        for i in range(len(tensors)):
            values = _items(entry, i, len(tensors)) if isinstance(feature, tuple) else [entry]
            uses = [user for value in values for user in value.users]
            seals.append(_sealing(uses, root, tracker.readers) or set())
        return output, tracker.live_output, seals

    def note(self, layer: nn.Module, live: Tensor) -> None:
        """A layer was seen to read a Tensor with these live channels."""
        if layer in self.read:
            self.blind.add(layer)
        self.read[layer] = live


def all_live(value: Any) -> Live:
    """Every channel of a Tensor or of each Tensor of a tuple."""
    if isinstance(value, Tensor):
        return torch.ones(value.shape[1] if value.dim() > 1 else 1, dtype=torch.bool)
    if isinstance(value, (tuple, list)):
        return tuple(all_live(v) for v in value)
    return None


class _Tracker(fx.Interpreter):
    """Runs a graph on real tensors and carries the live channels of every value beside it."""

    def __init__(self, graph: fx.GraphModule, live: Live, seen: Liveness) -> None:
        super().__init__(graph)
        self.live: dict[fx.Node, Live] = {}
        self.live_input, self.live_output, self.seen = live, None, seen
        self.readers: set[fx.Node] = set()  # the calls that may be handed a cut

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.live[n] = self._rule(n, value)
        return value

    def _rule(self, node: fx.Node, value: Any) -> Live:
        if node.op == "placeholder":
            return self.live_input
        if node.op == "output":
            self.live_output = self._live_of(node.args[0], value)
            return self.live_output
        layer = self.fetch_attr(str(node.target)) if node.op == "call_module" else None
        what: Any = type(layer) if layer is not None else node.target
        first: Any = node.args[0] if node.args else None
        live = self.live.get(first) if isinstance(first, fx.Node) else None
        if what is operator.getitem and isinstance(live, tuple) and isinstance(node.args[1], int):
            return live[node.args[1]]
        if what in FINAL and layer is not None:
            self._note(node, layer, live)
        if isinstance(value, Tensor) and value.dim() in (2, 4):
            if what in _CONCATENATE and isinstance(first, (list, tuple)) and _dim(node) == 1:
                return torch.cat([self.live[n] for n in first])
            terms: Any = node.args[:2]
            if what in _ADD and all(self._shape(term) == value.shape for term in terms):
                return self.live[terms[0]] | self.live[terms[1]]
            if isinstance(live, Tensor) and what in _KEEP_CHANNELS and live.numel() == value.shape[1]:
                return live
            if isinstance(live, Tensor) and what in _FLATTEN and value.dim() == 2:
                batch, *rest = self._shape(first)
                if value.shape[0] == batch and value.shape[1] == math.prod(rest):
                    return live.repeat_interleave(math.prod(rest[1:]))
        return all_live(value)

    def _note(self, node: fx.Node, layer: nn.Module, live: Live) -> None:
        # A linear layer's channels are its input's last axis, live channels are the second.
        flat = isinstance(layer, nn.Conv2d) or len(self._shape(node.args[0] if node.args else None)) == 2
        if flat and isinstance(live, Tensor) and reader_of(layer) is not None:
            self.readers.add(node)
            self.seen.note(layer, live)
        else:
            self.seen.blind.add(layer)

    def _shape(self, node: Any) -> tuple[int, ...]:
        value = self.env.get(node) if isinstance(node, fx.Node) else None
        return tuple(value.shape) if isinstance(value, Tensor) else ()

    def _live_of(self, item: Any, value: Any) -> Live:
        if isinstance(item, fx.Node):
            return self.live[item]
        if isinstance(item, (tuple, list)):
            return tuple(self._live_of(i, v) for i, v in zip(item, value, strict=True))
        return all_live(value)


def _items(entry: fx.Node, i: int, length: int) -> list[fx.Node]:
    """The i-th Tensor of a tuple, wherever it is taken; none if the tuple is used otherwise than by index."""
    if any(n.target is not operator.getitem or not isinstance(n.args[1], int) for n in entry.users):
        return []
    return [n for n in entry.users if n.args[1] in (i, i - length)]


def _sealing(uses: list[fx.Node], root: nn.Module, readers: set[fx.Node]) -> set[nn.Module] | None:
    """The layers at which all paths end, with those in between; None if one path ends elsewhere."""
    layers: set[nn.Module] = set()
    for user in uses:
        if user.op != "call_module" or len(user.args) != 1 or user.kwargs:
            return None
        layer = root.get_submodule(str(user.target))
        kind = reader_of(layer)
        if kind is None or (kind in FINAL.values() and user not in readers):
            return None
        layers.add(layer)
        if kind in PASSING.values():
            beyond = _sealing(list(user.users), root, readers)
            if not beyond:
                return None
            layers |= beyond
    return layers


def _dim(node: fx.Node) -> Any:
    return node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
