"""CAGrad: near the mean gradient, the direction whose worst progress is best.

Liu et al., "Conflict-Averse Gradient Descent for Multi-task Learning", NeurIPS 2021, arXiv:2110.14048.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from offramp.checks import choice, number
from offramp.combiners.weighted import Weigh, Weighted
from offramp.combiners.weightings import cagrad

__all__ = ["CAGrad"]


@dataclass(frozen=True, kw_only=True)
class CAGrad(Weighted):
    """Conflict-averse gradient descent, scaled as in the authors' code; see :func:`weightings.cagrad`.

    Attributes:
        c: How far the direction may be from the mean gradient, in units of its norm; 0.4 in the authors'
            scripts. 0 is the plain sum, and towards 1 it becomes MGDA.
        scaling: ``sum``: times the number of losses, as in the authors' multi-task code. ``native``:
            ``d / (1 + c^2)`` of the paper's d, near the mean gradient, as in Meta-GF's package: an m-th.

    Raises:
        UserError: A value out of its range.
    """

    c: float = 0.4
    scaling: str = "sum"

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "c", "from 0 to below 1, e.g. 0.4 as in the paper", lambda c: 0 <= c < 1)
        choice(self, "scaling", ("sum", "native"))

    def plain(self, count: int) -> Tensor:
        """Weights ``[count]`` of the sum, or of the mean for the native scale."""
        return super().plain(count) / (1 if self.scaling == "sum" else count)

    def weighting(self) -> Weigh:  # noqa: D102
        def weigh(gramian: Tensor, last: Tensor) -> Tensor:
            return cagrad(gramian, self.c) * self.plain(len(gramian))

        return weigh
