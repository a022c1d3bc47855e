"""Meta-GF: a phase per output with constant auxiliary rates, fused by meta-learned weights.

Sun, Li, Xu, "Meta-GF: Training Dynamic-Depth Neural Networks Harmoniously", ECCV 2022.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from offramp.checks import choice, number, switch
from offramp.methods.loops.context import LoopContext
from offramp.methods.loops.loop import BoundLoop
from offramp.methods.loops.progress import Progress
from offramp.methods.loops.staged._bound import BoundStagedLoop
from offramp.methods.loops.staged._copies import shared_parameters
from offramp.methods.loops.staged._fusion import adam
from offramp.methods.loops.staged._learned_mean import LearnedMean
from offramp.methods.loops.staged._options import StagedLoop
from offramp.methods.loops.staged._output_training import OutputTraining
from offramp.methods.loops.staged._scaled_units import connections
from offramp.nets import MultiExitNet
from offramp.nets.state_owners import owners_of_state

__all__ = ["MetaGF"]

# name of a net -> v_j of its exits as factors of the auxiliary rate; 1 each on other nets
PUBLISHED = {
    "vgg_sdn": (3.0, 0.6, 0.45, 0.6, 0.75, 0.9, 1.0),
    "resnet_sdn": (1.0, 1.0, 0.6, 0.6, 0.75, 0.9, 1.0),
    "msdnet_cifar": (1.0, 1.0, 0.6, 0.6, 0.75, 0.9, 1.0),
}


@dataclass(frozen=True, kw_only=True)
class MetaGF(StagedLoop):
    """Phase k descends f_k + sum over j != k of v_j f_j; shared tensors are means with learned weights.

    The defaults are those of the authors' VGG-SDN script for CIFAR-100, but for ``ramp``, ``optimizers`` and
    ``statistics``, which keep the comparison with other methods fair; only the v_j go by the network. As
    there, the fused net is that of the last step but one.

    Attributes:
        auxiliary: Rate that the published v_j of the SDN networks and MSDNet-CIFAR are multiplied by; v_j is
            the rate itself on other nets.
        granularity: ``channel``: weights exp(T w) for each output channel, from w = 1, and 5 for the last
            exit of a multi-exit net (VGG-SDN). ``tensor``: one weight sigmoid(w) for each tensor, from w = 1,
            for which the authors take ``ema=0.9`` and ``fusion_gamma=1`` (ResNet-SDN, MSDNet).
            ``connection``: one weight sigmoid(w) for each kernel of a convolution and each element of other
            tensors, from w = 0 (NYUv2).
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
        choice(self, "granularity", ("channel", "tensor", "connection"))
        number(self, "sharpness", "above 0", lambda t: t > 0)
        switch(self, "frozen")

    def learns_in(self, epoch: int) -> bool:  # noqa: D102
        return not self.frozen or epoch == 0

    def bind(self, context: LoopContext) -> BoundLoop:  # noqa: D102
        owners = owners_of_state(context.net)
        shared = shared_parameters(context.net, owners)
        mean = self._mean(context, shared)
        return BoundStagedLoop(
            context,
            self,
            owners=owners,
            mean=mean,
            optimizer=adam(mean.variables.values(), self.fusion_lr, context.fabric),
            factors=self.factors,
        )

    def factors(self, training: OutputTraining, output: int, progress: Progress) -> list[float]:
        """Factor of each loss in the phase of an output."""
        net, outputs = training.context.net, len(training.context.tasks)
        name = str((getattr(net, "spec", None) or {}).get("net"))
        rates: Sequence[float] = PUBLISHED.get(name, ())
        if len(rates) != outputs:
            rates = (1.0,) * outputs
        tau = training.taus(progress)[output]
        return [tau * (1.0 if k == output else self.auxiliary * v) for k, v in enumerate(rates)]

    def _mean(self, context: LoopContext, shared: Mapping[str, tuple[int, ...]]) -> LearnedMean:
        channel = self.granularity == "channel"
        deepest = len(context.tasks) - 1 if channel and isinstance(context.net, MultiExitNet) else None
        usual = 0.0 if self.granularity == "connection" else 1.0
        return LearnedMean(
            shared,
            self._units(context.net, shared),
            positive=self._positive,
            start=lambda output: 5.0 if output == deepest else usual,
            like=next(context.net.parameters()),
        )

    def _units(self, net: nn.Module, shared: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Size]:
        """Leading part of each shared tensor's shape over which weights differ."""
        if self.granularity == "connection":
            return connections(net, shared)
        axes = 1 if self.granularity == "channel" else 0
        return {name: p.shape[:axes] for name, p in net.named_parameters() if name in shared}

    def _positive(self, variable: Tensor) -> Tensor:
        if self.granularity == "channel":
            # less the highest, for the same mean
            return torch.exp(self.sharpness * (variable - variable.detach().amax(0)))
        return variable.sigmoid()
