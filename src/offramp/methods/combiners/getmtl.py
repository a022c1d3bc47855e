"""GetMTL: near the mean gradient, the unit direction whose worst progress is best.

Chai, Cui, Wang, Zhang, Fang, Liao, "Improving Gradient Trade-offs between Tasks in Multi-task Text
Classification", ACL 2023. Its equations are not established: this is the problem that the symbols of the
public code fit, which the code itself does not solve.

    max_d min_k g_k . d   s.t.  |d - g_0| <= eps |g_0| |d|,      g_0 the mean gradient
    min_w g_w . g_0 + eps |g_0|^2 |g_w|  over the simplex,
    d = (g_0 + eps |g_0|^2 g_w / |g_w|) / (1 - eps^2 |g_0|^2)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from offramp.checks import number
from offramp.methods.combiners.cagrad import cagrad_weights
from offramp.methods.combiners.row_combiner import RowCombiner

__all__ = ["GetMTL", "getmtl_weights"]

WIDEST = 0.9  # at 1 the direction grows without bound, and turns round beyond


@dataclass(frozen=True, kw_only=True)
class GetMTL(RowCombiner):
    """The direction of GetMTL, at the scale of the sum; see :func:`getmtl_weights`.

    Attributes:
        eps: How far the direction may be from the mean gradient, for each unit of the norms of both; 0.15 is
            the public code's default.

    Raises:
        UserError: A value out of its range.
    """

    eps: float = 0.15

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "eps", "of 0 or more", lambda eps: eps >= 0)

    def weigh(self, gramian: Tensor, last: Tensor) -> Tensor:  # noqa: D102
        return getmtl_weights(gramian, self.eps)


def getmtl_weights(gramian: Tensor, eps: float) -> Tensor:
    """Weights of ``m d``, the direction d of GetMTL at the scale of the sum.

    It is CAGrad's direction with the radius c = eps |g_0|, divided by 1 - c^2, since the distance may grow
    with the direction itself. c is kept to 0.9 at most.

    Args:
        gramian: ``[m, m]`` float64, with no zero on its diagonal.
        eps: See :class:`GetMTL`.

    Returns:
        ``[m]``. For m equal rows of norm n their sum is m / (1 - eps n).

    Raises:
        SolverFailure: The solver did not converge.
    """
    length = gramian.mean().clamp(min=0).sqrt()
    c = float(torch.clamp(eps * length, max=WIDEST))
    return cagrad_weights(gramian, c) * ((1 + c**2) / (1 - c**2))
