"""What a network offers to those who put rules on its forks, as multi-exit and multi-task nets do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

__all__ = ["ForkedNet"]


class ForkedNet(nn.Module):
    """Base of networks that hand each stage's feature to a fork, for heads and the next stage.

    Attributes:
        stages: S modules in a row.
        forks: One module behind each stage; none behind the last where one head alone reads it.
        heads: As many behind each stage, those of the first stage first.
    """

    stages: nn.ModuleList
    forks: nn.ModuleList
    heads: nn.ModuleList

    def walk(self, x: Any, call: Callable[..., Any]) -> list[Tensor]:
        """The outputs, where ``call("stage" | "fork" | "head", module, *inputs)`` runs each part."""
        raise NotImplementedError

    def channel_axes(self) -> Sequence[tuple[int | None, ...]]:
        """For each fork the channel axis of each Tensor of the feature; None: it has no gradient."""
        raise NotImplementedError

    def sample(self, n: int) -> Any:
        """An input of n samples to look at the network with."""
        raise NotImplementedError
