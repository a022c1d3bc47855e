"""Mixed training: the backbone alone, then everything jointly (Kubaty et al., ICML 2025)."""

from __future__ import annotations

from dataclasses import dataclass

from offramp.methods.passes import Passes
from offramp.methods.regimes.regime import Period, TwoPeriods
from offramp.nets import MultiExitNet

__all__ = ["Mixed"]


@dataclass(frozen=True, kw_only=True)
class Mixed(TwoPeriods):
    """First the backbone with the last exit's loss alone, then the whole net by the method's other parts."""

    @property
    def trains_backbone(self) -> bool:  # noqa: D102
        return True

    def second(self, epochs: int, net: MultiExitNet) -> Period:  # noqa: D102
        return Period("all", epochs, lr_factor=self.lr_factor)

    def passes(self, method: Passes) -> Passes:  # noqa: D102
        share = self.backbone_share
        if not share or method == Passes():
            return method
        return share * Passes() + (1 - share) * method
