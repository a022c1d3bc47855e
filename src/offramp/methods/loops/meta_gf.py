"""Meta-GF: stages with constant auxiliary rates, fused by meta-learned weights.

Sun, Li, Xu, "Meta-GF: Training Dynamic-Depth Neural Networks Harmoniously", ECCV 2022.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from offramp.checks import choice, number, switch
from offramp.methods.loops.context import LoopContext
from offramp.methods.loops.fusion import Fusion
from offramp.methods.loops.loop import Progress
from offramp.methods.loops.routes import Routes
from offramp.methods.loops.stage import Stage
from offramp.methods.loops.staged import Staged

__all__ = ["MetaGF"]

# by the net's name: how much a stage heeds each exit beside its own, in auxiliary rates; else 1 each
HEEDED = {
    "vgg_sdn": (3.0, 0.6, 0.45, 0.6, 0.75, 0.9, 1.0),
    "resnet_sdn": (1.0, 1.0, 0.6, 0.6, 0.75, 0.9, 1.0),
    "msdnet_cifar": (1.0, 1.0, 0.6, 0.6, 0.75, 0.9, 1.0),
}


@dataclass(frozen=True, kw_only=True)
class MetaGF(Staged):
    """Stage k descends CE_k + sum over j != k of v_j CE_j; shared tensors are means with learned weights.

    The defaults are those of the authors' VGG-SDN script for CIFAR-100, but for ``ramp``, ``optimizers`` and
    ``statistics``, which keep the comparison with other methods fair; only the v_j go by the network. As
    there, the fused net is that of the last step but one.

    Attributes:
        auxiliary: Rate that the published v_j of the SDN networks and MSDNet-CIFAR are multiplied by; v_j is
            the rate itself on other nets.
        granularity: ``channel``: weights exp(T w) for each output channel, from w = 1, and 5 for the last
            exit (VGG-SDN). ``tensor``: one weight sigmoid(w) for each tensor, from w = 1, for which the
            authors take ``ema=0.9`` and ``fusion_gamma=1`` (ResNet-SDN, MSDNet).
        sharpness: T.
        frozen: Learn in the first epoch only, as the authors' scripts for ResNet and MSDNet do by oversight.

    Raises:
        UserError: A value out of its range.
    """

    lags: ClassVar[bool] = True
    auxiliary: float = 0.1
    granularity: str = "channel"
    sharpness: float = 0.1
    frozen: bool = False
    fusion_gamma: float = 0.1
    ema: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "auxiliary", "of 0 or more", lambda rate: rate >= 0)
        choice(self, "granularity", ("channel", "tensor"))
        number(self, "sharpness", "above 0", lambda t: t > 0)
        switch(self, "frozen")

    def learns(self, progress: Progress) -> bool:  # noqa: D102
        return not self.frozen or progress.epoch == 0

    def factors(self, stage: Stage, task: int, progress: Progress) -> list[float]:  # noqa: D102
        net = stage.context.net
        name = str((getattr(net, "spec", None) or {}).get("net"))
        heeded: Sequence[float] = HEEDED.get(name, ())
        if len(heeded) != len(net.outputs):
            heeded = (1.0,) * len(net.outputs)
        tau = stage.taus(progress)[task]
        return [tau * (1.0 if k == task else self.auxiliary * v) for k, v in enumerate(heeded)]

    def fusion(  # noqa: D102
        self, context: LoopContext, shared: Mapping[str, tuple[int, ...]], routes: Routes | None
    ) -> Fusion:
        channel = self.granularity == "channel"
        last = len(context.net.outputs) - 1
        shapes = {name: p.shape for name, p in context.net.named_parameters() if name in shared}
        return Fusion(
            shared,
            {name: shape[:1] if channel else shape[:0] for name, shape in shapes.items()},
            positive=self._positive,
            start=lambda task: 5.0 if channel and task == last else 1.0,
            like=next(context.net.parameters()),
        )

    def _positive(self, variable: Tensor) -> Tensor:
        if self.granularity == "tensor":
            return variable.sigmoid()
        return torch.exp(self.sharpness * (variable - variable.detach().amax(0)))  # whose mean is the same
