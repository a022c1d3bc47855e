"""Separate networks, one per output, with nothing shared: a yardstick, and not of conflict alone.

Beside a joint network it differs in four things at once: no gradient of another output disturbs (conflict),
no weight has to serve several outputs (capacity), no shallow loss trains the first layers of a deep exit
(deep supervision), and a layer descends one loss instead of the sum of several (the effective step).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from offramp.checks import of_kind
from offramp.copying import deep_copy
from offramp.nets.branch import Chain, branch
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
        self.nets = nn.ModuleList(deep_copy(branch(net, k)) for k in range(len(net.outputs)))
        self.outputs = net.outputs
        self.example, self.convention = net.example, net.convention
        if hasattr(net, "input_size"):
            self.input_size = net.input_size

    @property
    def heads(self) -> list[nn.Module]:
        """The heads, or decoders, of all networks."""
        heads: list[nn.Module] = []
        for net in self.nets:
            heads += net.heads if isinstance(net, Chain) else [net[-1]]  # type: ignore[index]
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
