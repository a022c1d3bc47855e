"""One network per exit, with nothing shared: a yardstick, and not of conflict alone.

Beside a joint network it differs in four things at once: no gradient of another exit disturbs (conflict), no
weight has to serve several exits (capacity), no shallow loss trains the first layers of a deep exit (deep
supervision), and a layer descends one loss instead of the sum of several (the effective step).
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from offramp.nets.multi_exit import MultiExitNet
from offramp.nets.sample import make_sample
from offramp.tasks import Task
from offramp.tasks.outputs import exit_name

__all__ = ["Net", "Separate"]


class Separate(nn.Module):
    """K networks in one: the k-th is a copy of the stages up to exit k and of its head.

    All copies start from the weights of the net they are made of. The net itself is left alone.

    Args:
        net: A multi-exit net with plain forks.
    """

    def __init__(self, net: MultiExitNet) -> None:
        super().__init__()
        self.nets = nn.ModuleList(
            copy.deepcopy(nn.Sequential(*net.stages[: k + 1], head)) for k, head in enumerate(net.heads)
        )
        self.input_size, self.example, self.convention = net.input_size, net.example, net.convention
        self.task = net.task

    @property
    def num_exits(self) -> int:
        """How many networks there are (K)."""
        return len(self.nets)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits of every network, shallow to deep: K tensors ``[N, classes]``."""
        return [net(x) for net in self.nets]

    def sample(self, n: int) -> Any:
        """An input of n samples to look at the networks with; see :meth:`MultiExitNet.sample`."""
        return make_sample(self, n, self.input_size, self.example)

    @property
    def outputs(self) -> dict[str, Task]:
        """The task of each network, by the name of the exit it is a copy of."""
        return {exit_name(k): self.task for k in range(1, self.num_exits + 1)}

    def owners(self) -> dict[str, frozenset[int]]:
        """The network that each parameter belongs to."""
        return {name: frozenset({int(name.split(".")[1])}) for name, _ in self.named_parameters()}


Net = MultiExitNet | Separate
