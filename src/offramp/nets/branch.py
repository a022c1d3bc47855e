"""The part of a net that makes one of its outputs, as a net of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from offramp.nets.exits import exits, first_of_chain, reads_previous
from offramp.nets.multi_exit import MultiExitNet
from offramp.nets.multi_task import MultiTaskNet
from offramp.nets.named_inputs import named_inputs
from offramp.nets.net import Net

__all__ = ["Branch", "Chain", "branch"]


class Branch(Net):
    """A net with one output of a multi-exit net: the stages up to an exit, and its head.

    The modules are the net's own, and features go from stage to stage as they are, whatever its forks do.

    Args:
        net: The multi-exit net.
        k: Which output, from 0.
    """

    def __init__(self, net: MultiExitNet, k: int) -> None:
        super().__init__()
        self.part = branch(net, k)
        self.outputs = dict([[*net.outputs.items()][k]])
        self.input_size, self.example, self.convention = net.input_size, net.example, net.convention

    def forward(self, x: Any) -> list[Tensor]:
        """The logits of the exit alone: one Tensor ``[N, classes]`` in a list."""
        return [self.part(named_inputs(x, self.example))]

    def owners(self) -> dict[str, frozenset[int]]:
        """The one output, for every parameter."""
        return {name: frozenset({0}) for name, _ in self.named_parameters()}


class Chain(nn.Module):
    """Stages and heads up to an exit whose head reads the logits of earlier ones; gives its logits alone."""

    def __init__(self, stages: Iterable[nn.Module], heads: Iterable[nn.Module]) -> None:
        super().__init__()
        self.stages, self.heads = nn.ModuleList(stages), nn.ModuleList(heads)

    def forward(self, x: Any) -> Tensor:
        """The logits of the last head, ``[N, classes]``."""
        *_, last = exits(self.stages, [], self.heads, x)
        return last.logits


def branch(net: MultiExitNet | MultiTaskNet, k: int) -> nn.Module:
    """The net's own modules that make output k (from 0), as one module: input -> output."""
    if isinstance(net, MultiTaskNet):
        return nn.Sequential(*net.stages[: k // net.num_tasks + 1], net.decoders[k])
    start = first_of_chain(net.heads, k)
    below, above = [*net.stages[: start + 1]], [*net.stages[start + 1 : k + 1]]
    if not reads_previous(net.heads[k]):
        return nn.Sequential(*below, net.heads[k])
    return Chain([nn.Sequential(*below), *above], net.heads[start : k + 1])
