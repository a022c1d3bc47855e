"""What a network offers to those who put rules on its forks; :class:`~offramp.nets.MultiExitNet` is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import nn

__all__ = ["ForkedNet"]


class ForkedNet(nn.Module):
    """Base of networks that hand each stage's feature to a fork, for a head and the next stage.

    Attributes:
        stages: K modules in a row.
        forks: K-1 modules, one behind each stage but the last.
        heads: K modules.
    """

    stages: nn.ModuleList
    forks: nn.ModuleList
    heads: nn.ModuleList

    @property
    def num_exits(self) -> int:
        """How many exits the network has (K)."""
        return len(self.heads)

    def exits(self, x: Any, *, call: Callable[..., Any] | None = None) -> Iterator[Any]:
        """The forward pass one exit at a time, in which ``call(kind, module, *inputs)`` calls each part."""
        raise NotImplementedError

    def channel_axes(self) -> Sequence[tuple[int | None, ...]]:
        """For exits 1 to K-1, the channel axis of each Tensor of the feature; None: it has no gradient."""
        raise NotImplementedError

    def sample(self, n: int) -> Any:
        """An input of n samples to look at the network with."""
        raise NotImplementedError
