"""MGDA-UB: MGDA's weights, found at the feature where outputs part instead of on the parameters below it.

Sener and Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018, arXiv:1810.04650,
Sec 3.3, which bounds MGDA's objective from above by that of the feature's gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from offramp.checks import choice
from offramp.errors import UserError
from offramp.forks import Fork, GainFork
from offramp.methods.combiners._junctions import BoundMGDAUB
from offramp.methods.combiners.combiner import Combiner
from offramp.methods.passes import Linear, Passes
from offramp.nets.plain_weights import check_dense

__all__ = ["MGDAUB"]


@dataclass(frozen=True, kw_only=True)
class MGDAUB(Combiner):
    """Weighs the gradients that meet at a fork by the shortest vector of their convex hull.

    At the trunk of a multi-task net these are the gradients of the tasks' losses. At the fork of an exit they
    are two: that of the exit's own loss, and that of the sum of all later losses. The stage before the fork
    gets the weighted sum's gradient, by one backward pass; heads and the last stage get the plain one.
    Without conflict the direction has the scale of the plain sum.

    Attributes:
        inner: Inner products of the features' gradients ``[N, ...]``: ``samples``, over samples and features,
            as published; or ``sums``, of the sums over the samples, as LibMTL has it.

    Raises:
        UserError: Another value.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"rows", "trunk", "junctions"})
    inner: str = "samples"

    def __post_init__(self) -> None:
        choice(self, "inner", ("samples", "sums"))

    @property
    def passes(self) -> Passes:
        """Cost of a step in passes of joint training: stages before a fork have a second input gradient."""
        return Passes(1, Linear(constant=1.5, of_tasks=Linear(constant=1.0)))

    @property
    def whole_batch(self) -> str:  # noqa: D102
        return "mgda-ub needs the features of the whole batch to go back from"

    def bind(self, net: nn.Module, seed: int = 0) -> nn.Module:  # noqa: D102
        _check_forks(net)
        check_dense(net)
        return BoundMGDAUB(net, self.inner)


def _check_forks(net: Any) -> None:
    """Check that gradients meet at a net's forks, and that what lies before one is read through it alone.

    Raises:
        UserError: They do not meet or train nothing, or a stage shares a parameter with another part.
    """
    forks = getattr(net, "forks", ())
    if not len(forks):
        raise UserError(
            f"mgda-ub works at the feature where outputs part, and {type(net).__name__} has no fork; take "
            "mgda, or a net that offramp.multi_task or offramp.attach made"
        )
    if any(type(fork) not in (Fork, GainFork) or (type(fork) is GainFork and fork.parts) for fork in forks):
        raise UserError(
            "mgda-ub weighs gradients that meet at a fork, and none meet where channels are partitioned; "
            "take mgda there, or mgda-ub on plain forks"
        )
    if not any(p.requires_grad for stage in net.stages[: len(forks)] for p in stage.parameters()):
        raise UserError(
            "mgda-ub weighs gradients for the stages before forks, and all of these are frozen; unfreeze "
            "one, or take another method"
        )
    parts = [set(part.parameters()) for part in (*net.stages, *net.heads)]
    if any(
        p in other for k in range(len(forks)) for p in parts[k] for other in parts if other is not parts[k]
    ):
        raise UserError(
            "mgda-ub goes back through one stage at a time, and one shares a parameter with another part of "
            "the net; take mgda"
        )
