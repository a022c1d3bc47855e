"""GradDrop: at every coordinate one sign is drawn, and the rows of the other sign are dropped.

Chen et al., "Just Pick a Sign: Optimizing Deep Multitask Models with Gradient Sign Dropout", NeurIPS 2020,
arXiv:2010.06808, Algorithm 1, on gradients of parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from offramp.checks import choice, number
from offramp.methods.combiners.aggregate import BoundAggregator
from offramp.methods.combiners.combiner import Combiner
from offramp.methods.combiners.jacobian import SCOPES
from offramp.methods.passes import EACH, Passes

__all__ = ["GradDrop"]


@dataclass(frozen=True, kw_only=True)
class GradDrop(Combiner):
    """Gradient sign dropout; in the mean over the draws it is the plain sum.

    Attributes:
        leak: Fraction of a row that passes where its sign was not drawn; 0 in the paper, 1 is the plain sum.
        shared: Which parameters have rows: all that several losses reach, ``per_stage`` or in ``union``,
            which is the same here, element by element; those of the ``first`` stage; or ``all``, where heads,
            of one loss each, are left as they are.

    Raises:
        UserError: A value out of its range.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"rows", "trunk"})
    whole_batch = ""
    leak: float = 0.0
    shared: str = "per_stage"

    def __post_init__(self) -> None:
        choice(self, "shared", SCOPES)
        number(self, "leak", "from 0 to 1", lambda leak: 0 <= leak <= 1)

    @property
    def passes(self) -> Passes:  # noqa: D102
        return Passes(1, EACH)

    def bind(self, net: nn.Module, seed: int = 0) -> nn.Module:  # noqa: D102
        return BoundAggregator(net, self.shared, "GradDrop", {"leak": float(self.leak)}, seed)
