"""Branch-wise training: one exit after the other, each on the frozen stages before it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from torch import nn

from offramp.errors import UserError, shown
from offramp.methods.passes import ONE, K, Passes
from offramp.methods.regimes._tied import check_apart
from offramp.methods.regimes.regime import Period, Regime
from offramp.nets import MultiExitNet

__all__ = ["BranchWise"]


@dataclass(frozen=True, kw_only=True)
class BranchWise(Regime):
    """Stage and head of exit 1 are trained and frozen, then those of exit 2, and so on to the last.

    The epochs are shared out evenly. No loss reaches what another one trains, and no stage is trained for the
    stages behind it.
    """

    idle = ("fork", "objective", "balancer", "combiner", "loop")

    def check(self, net: nn.Module, method: str) -> None:  # noqa: D102
        super().check(net, method)
        assert isinstance(net, MultiExitNet)
        for k in range(1, net.num_exits):
            check_apart([net.stages[k], net.heads[k]], [*net.stages[:k], *net.heads[:k]], shown(method))

    def periods(self, epochs: int, net: nn.Module) -> list[Period]:  # noqa: D102
        assert isinstance(net, MultiExitNet)
        count = net.num_exits
        if epochs < count:
            raise UserError(
                f"epochs is {epochs}, and branch-wise training takes one or more for each of {count} exits; "
                f"give {count} or more"
            )
        bounds = [round(k * epochs / count) for k in range(count + 1)]
        return [
            Period(
                f"exit {k + 1}",
                end - start,
                output=k,
                trained=(net.stages[k], net.heads[k]),
                passes=Passes((k + 1) / count, 1 / count),
            )
            for k, (start, end) in enumerate(itertools.pairwise(bounds))
        ]

    def passes(self, method: Passes) -> Passes:  # noqa: D102
        return Passes(((K + 1) / 2).per_output, ONE.per_output)
