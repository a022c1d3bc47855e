"""Gradient equilibrium: each exit's gradient is scaled so that every stage hears the mean of its exits.

Li et al., "Improved Techniques for Training Adaptive Deep Networks", ICCV 2019 (IMTA).

Of n exits, n - i + 1 lie at or behind feature f_i. In a plain net their gradients add up, and the
earlier a stage, the larger the sum. Here the fork at exit i < n has these gains:

===================  =====================
gradient from        all channels of f_i
===================  =====================
the head             1 / (n - i + 1)
the next stage       (n - i) / (n - i + 1)
===================  =====================

Their products telescope: the loss of every exit k >= b reaches stage b with the weight 1 / (n - b + 1), and
its own head with 1. Where a feature has several scales, that holds if all of them are scaled. The authors
scale the coarsest alone, and what goes through the finer ones stays as it is.

In general a consumer's gain is the number of outputs behind it over the number behind the fork. So a trunk
with K decoders hears the mean of their gradients, each with 1 / K.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from offramp.checks import choice
from offramp.forks.rule import SCALES, Place

__all__ = ["Equilibrium"]


@dataclass(frozen=True)
class Equilibrium:
    """The rule of gradient equilibrium; the default is the authors'.

    Attributes:
        scales: Of a feature that is a tuple: scale the gradient of the ``coarsest`` (last) or of ``all``.

    Raises:
        UserError: Another value.
    """

    scales: str = "coarsest"
    per_channel: ClassVar[bool] = False

    def __post_init__(self) -> None:
        choice(self, "scales", SCALES)

    def gains(self, place: Place) -> Tensor | None:
        """Equal gains for all channels of a place; None at a finer scale that is left alone."""
        if not place.among(self.scales):
            return None
        outputs = torch.tensor(place.outputs, dtype=torch.float64)
        return (outputs / outputs.sum())[:, None].expand(-1, place.channels)
