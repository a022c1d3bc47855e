"""What a sample costs that leaves at an exit: the stages up to there, and the heads that run on the way."""

from __future__ import annotations

from collections.abc import Collection

from offramp.counting import cost
from offramp.errors import UserError
from offramp.exits._with_exits import check_has_exits
from offramp.exits.segments import heads_needed, path
from offramp.nets import MultiExitNet

__all__ = ["PathCosts"]


class PathCosts:
    """Operations of every part of a net, and of every way through it.

    Args:
        net: The net.
        convention: How to count, a key of :data:`~offramp.counting.conventions.CONVENTIONS`; by default the
            net's own.

    Attributes:
        convention: How it was counted.
        stages: Operations of each of the K stages, for one sample.
        heads: Operations of each of the K heads.

    Raises:
        UserError: Some operations of the net are unknown, or it has no exits in a row.
    """

    def __init__(self, net: MultiExitNet, convention: str | None = None) -> None:
        check_has_exits(net)
        counted = cost(net, convention=convention)
        if counted.unknown:
            raise UserError(
                f"operations of the net are unknown ({'; '.join(counted.unknown)}); "
                "calibrate to a latency or a risk, which need no count"
            )
        self.convention = counted.convention
        self.stages = [count for count in counted.stages if count is not None]
        self.heads = [count for count in counted.heads if count is not None]
        self._modules = [*net.heads]

    def of(self, evaluated: Collection[int]) -> list[int]:
        """The cost of leaving at each exit, for one sample, all heads on the way that run included.

        Args:
            evaluated: The numbers of the exits at which samples may leave.

        Returns:
            One for each evaluated exit, in order.
        """
        return path(self.stages, self.heads, heads_needed(self._modules, evaluated), evaluated)

    @property
    def static(self) -> int:
        """The cost of the backbone: all stages and the last head."""
        return self.of([len(self.stages)])[-1]
