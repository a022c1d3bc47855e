"""RotoGrad: every head reads the feature through a rotation of its own, learned so that gradients agree.

Javaloy, Valera, "RotoGrad: Gradient Homogenization in Multitask Learning", ICLR 2022, arXiv:2103.02631.

Head k reads r_k = R_k z of the feature z: R_k is in SO(C), turns the channels alike at every position, and is
the identity at first. The losses do not train it. With g_k = dL_k/dz the streams of gradients that meet at
the fork, N_k = |g_k| over the batch, and v the mean of the g_k after each was brought to the norm of their
mean, R_k descends its own loss

    mean over samples of |R_k v - dL_k/dr_k|^2,

and the trunk gets C sum_k g_k / N_k, with C = sum_k a_k N_k, and a_k the share that N_k / N_k(0) has in the
sum of these ratios: streams that grew since the beginning weigh more in the length C of all of them.

The streams are the heads', and at an exit also that of all later exits together, which reads z as it is. When
the fork comes off, every R_k is folded into the layers of head k that read the feature, W -> W R_k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from offramp.checks import number, whole
from offramp.forks.rule import Place

__all__ = ["Rotation"]


@dataclass(frozen=True)
class Rotation:
    """The rule of RotoGrad; of a feature with several scales it acts on the coarsest.

    Attributes:
        rotation_lr: Learning rate of the rotations' own Adam. The paper asks for one below the net's.
        rotation_decay: What every step multiplies that rate by; the default is the authors' example's.
        rotated: How many channels are rotated at most, the first ones; None: all.
        burn_in: After so many steps the norms N_k(0) of the first step are replaced by those of this one.

    Raises:
        UserError: A value out of its range.
    """

    rotation_lr: float = 5e-4
    rotation_decay: float = 0.99999
    rotated: int | None = None
    burn_in: int = 20
    per_channel: ClassVar[bool] = True
    whole_batch: ClassVar[str] = "rotograd compares the gradients of a whole batch"

    def __post_init__(self) -> None:
        number(self, "rotation_lr", "above 0", lambda lr: lr > 0)
        number(self, "rotation_decay", "above 0, up to 1", lambda decay: 0 < decay <= 1)
        if self.rotated is not None:
            whole(self, "rotated", 2)
        whole(self, "burn_in", 1)

    def gains(self, place: Place) -> Tensor | None:
        """No fixed gains: what a gradient is multiplied by is found at each step."""
        return None
