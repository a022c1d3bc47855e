"""Zero Time Waste: a cascade of heads on a frozen backbone, then an ensemble of each with those before it.

Wojcik et al., "Zero Time Waste in pre-trained early exit neural networks", Neural Networks 168, 2023
(Wolczyk et al., NeurIPS 2021, arXiv:2106.05409), and its public code.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import nn

from offramp.checks import choice, whole
from offramp.errors import UserError
from offramp.methods.passes import Passes
from offramp.methods.regimes._tied import check_apart
from offramp.methods.regimes.regime import HeadsAlone, Period
from offramp.nets import MultiExitNet
from offramp.nets.cascade_heads import ENSEMBLES, CascadeHead
from offramp.nets.head_parts import head_parts

__all__ = ["ZeroTimeWaste"]


@dataclass(frozen=True, kw_only=True)
class ZeroTimeWaste(HeadsAlone):
    """First the cascade's classifiers, each with its own loss, then the ensembles; all else is frozen.

    New heads stand in the places of all but the last (:class:`~offramp.nets.cascade_heads.CascadeHead`). The
    last exit stays what it is to the bit, and no ensemble has it.

    Attributes:
        ensemble: ``"geometric"`` or ``"additive"``.
        ensemble_epochs: How many of the last epochs train the ensembles; None: 2, as in the authors' later
            code, or 1 of fewer than 4.

    Raises:
        UserError: A value out of its range.
    """

    idle = ("fork", "balancer", "combiner", "loop")
    ensemble: str = "geometric"
    ensemble_epochs: int | None = None

    def __post_init__(self) -> None:
        choice(self, "ensemble", ENSEMBLES)
        if self.ensemble_epochs is not None:
            whole(self, "ensemble_epochs", 1)

    def new_heads(self, net: MultiExitNet, method: str) -> list[nn.Module]:  # noqa: D102
        *shallow, last = net.heads
        parts = head_parts(shallow, method)
        heads = [CascadeHead(each, m, self.ensemble) for m, each in enumerate(parts, start=1)]
        check_apart(heads, [net.stages, last], method)
        return [*heads, last]

    def periods(self, epochs: int, net: nn.Module) -> list[Period]:  # noqa: D102
        assert isinstance(net, MultiExitNet)
        last = self.ensemble_epochs or (2 if epochs >= 4 else 1)
        if epochs <= last:
            raise UserError(
                f"epochs is {epochs}, and the last {last} train ensembles of classifiers that are trained "
                f"before; give {last + 1} or more"
            )
        heads = [head for head in net.heads if isinstance(head, CascadeHead)]
        classifiers = tuple(part for head in heads for part in head.classifier)
        ensembles = tuple(head.ensemble for head in heads)
        forward = Passes(1, 0)

        def answer_with(ensembling: bool) -> None:
            for head in heads:
                head.ensembling = ensembling

        return [
            Period(
                "cascade",
                epochs - last,
                trained=classifiers,
                passes=forward,
                begin=partial(answer_with, False),
            ),
            Period(
                "ensembles",
                last,
                trained=ensembles,
                passes=forward,
                begin=partial(answer_with, True),
            ),
        ]
