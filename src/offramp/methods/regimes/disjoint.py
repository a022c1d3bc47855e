"""Disjoint training: the backbone alone, then heads on the frozen backbone (Kubaty et al., ICML 2025)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from offramp.errors import shown
from offramp.methods.passes import Passes
from offramp.methods.regimes._tied import check_apart
from offramp.methods.regimes.regime import Period, TwoPeriods
from offramp.nets import MultiExitNet

__all__ = ["Disjoint"]


@dataclass(frozen=True, kw_only=True)
class Disjoint(TwoPeriods):
    """First the backbone with the last exit's loss alone, then the earlier heads, and nothing else.

    In the second period stages and last head are in evaluation mode, so that the last exit stays as it is to
    the bit. Each head has a loss of its own there: nothing is shared, and no conflict is left.
    """

    idle = ("fork", "balancer", "combiner", "loop")

    def check(self, net: nn.Module, method: str) -> None:  # noqa: D102
        super().check(net, method)
        assert isinstance(net, MultiExitNet)
        *earlier, last = net.heads
        check_apart(earlier, [net.stages, last], shown(method))

    def second(self, epochs: int, net: MultiExitNet) -> Period:  # noqa: D102
        heads = tuple(net.heads)[:-1]
        return Period("heads", epochs, trained=heads, lr_factor=self.lr_factor, passes=Passes(1, 0))

    def passes(self, method: Passes) -> Passes:  # noqa: D102
        share = self.backbone_share
        heads = Passes(1 - share, 0)
        return share * Passes() + heads if share else heads
