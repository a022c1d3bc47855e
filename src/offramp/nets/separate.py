"""Separate networks, one per output, with nothing shared: a yardstick, and not of conflict alone.

Beside a joint network it differs in four things at once: no gradient of another output disturbs (conflict),
no weight has to serve several outputs (capacity), no shallow loss trains the first layers of a deep exit
(deep supervision), and a layer descends one loss instead of the sum of several (the effective step).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from offramp.checks import of_kind
from offramp.copying import deep_copy
from offramp.nets.exits import exits, reads_previous
from offramp.nets.multi_exit import MultiExitNet
from offramp.nets.multi_task import MultiTaskNet
from offramp.nets.named_inputs import named_inputs
from offramp.nets.net import Net

__all__ = ["Separate"]


class Separate(Net):
    """K networks in one: the k-th is a copy of the stages up to output k and of its head or decoder.

    Where a head reads the logits of the exit before, the earlier heads that make them are copied too, and
    learn from its loss alone.

    All copies start from the weights of the net they are made of. The net itself is left alone.

    Args:
        net: A multi-exit or a multi-task net with plain forks.

    Raises:
        UserError: It is none of them.
    """

    def __init__(self, net: MultiExitNet | MultiTaskNet) -> None:
        super().__init__()
        of_kind("net", net, MultiExitNet | MultiTaskNet, "a MultiExitNet or a MultiTaskNet")
        self.nets = nn.ModuleList(deep_copy(_alone(net, k)) for k in range(len(net.outputs)))
        self.outputs = net.outputs
        self.example, self.convention = net.example, net.convention
        if hasattr(net, "input_size"):
            self.input_size = net.input_size

    @property
    def heads(self) -> list[nn.Module]:
        """The heads, or decoders, of all networks."""
        heads: list[nn.Module] = []
        for net in self.nets:
            heads += net.heads if isinstance(net, _Chain) else [net[-1]]  # type: ignore[index]
        return heads

    @property
    def num_exits(self) -> int:
        """Number of networks (K)."""
        return len(self.nets)

    def forward(self, x: Any) -> list[Tensor]:
        """The outputs of all networks: K Tensors ``[N, ...]``."""
        x = named_inputs(x, self.example)
        return [net(x) for net in self.nets]

    def owners(self) -> dict[str, frozenset[int]]:
        """The network that each parameter belongs to."""
        return {name: frozenset({int(name.split(".")[1])}) for name, _ in self.named_parameters()}


class _Chain(nn.Module):
    """Stages and heads up to an exit whose head reads the logits of earlier ones; gives its logits alone."""

    def __init__(self, stages: Iterable[nn.Module], heads: Iterable[nn.Module]) -> None:
        super().__init__()
        self.stages, self.heads = nn.ModuleList(stages), nn.ModuleList(heads)

    def forward(self, x: Any) -> Tensor:
        *_, last = exits(self.stages, [], self.heads, x)
        return last.logits


def _alone(net: MultiExitNet | MultiTaskNet, k: int) -> nn.Module:
    """The net's own modules that make output k (from 0), as one module."""
    if isinstance(net, MultiTaskNet):
        return nn.Sequential(*net.stages[: k // net.num_tasks + 1], net.decoders[k])
    start = k  # of the heads in a row that end with head k
    while start and reads_previous(net.heads[start]):
        start -= 1
    below, above = [*net.stages[: start + 1]], [*net.stages[start + 1 : k + 1]]
    if not reads_previous(net.heads[k]):
        return nn.Sequential(*below, net.heads[k])
    return _Chain([nn.Sequential(*below), *above], net.heads[start : k + 1])
