"""DR-MGF: a phase per output with kernels gated by their importance, fused by importance and learned weights.

Sun et al., "Learning Task-preferred Inference Routes for Gradient De-conflict in Multi-output DNNs",
arXiv:2305.19844.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from offramp.checks import choice, number, switch
from offramp.methods.loops.context import LoopContext
from offramp.methods.loops.loop import BoundLoop
from offramp.methods.loops.progress import Progress
from offramp.methods.loops.staged._bound import BoundStagedLoop
from offramp.methods.loops.staged._copies import shared_parameters
from offramp.methods.loops.staged._fusion import adam
from offramp.methods.loops.staged._importance import INITS, LATERAL, SIGNS, Importance
from offramp.methods.loops.staged._learned_mean import LearnedMean
from offramp.methods.loops.staged._loss_factors import equal_norms, landscape_rates
from offramp.methods.loops.staged._options import StagedLoop
from offramp.methods.loops.staged._output_training import OutputTraining
from offramp.methods.loops.staged._scaled_units import scaled_units
from offramp.methods.objectives.factors import Factors, check_factors, factors_of
from offramp.methods.passes import Passes
from offramp.nets.state_owners import owners_of_state
from offramp.tasks import Normals

if TYPE_CHECKING:
    from lightning_fabric.wrappers import _FabricOptimizer

__all__ = ["DRMGF"]

EQUAL = "equal-norms"
NYU = "nyu"


@dataclass(frozen=True, kw_only=True)
class DRMGF(StagedLoop):
    """Phase k descends f_k + beta sum over i != k of f_i + lambda ||nu_k||^2, through gated unit kernels.

    Attributes:
        gate: ``own``: the phase of output k is gated by nu_k alone. ``mixed``: by ten parts of it and one of
            every other owner's, so that every phase trains all nu.
        lateral: How a filter's inputs compete: ``paper`` (Eq 7) or ``nyu`` (hardly: the NYUv2 code).
        init: First values of nu: ``kaiming``, equal for all outputs; ``kaiming-apart``; or ``norm``, the
            norms of the net's kernels.
        sign: How nu and the fusion's scales are made positive: ``abs`` or ``softplus``.
        pointwise: Also gate 1x1 convolutions, by a nu that has a sign.
        auxiliary: The auxiliary rate beta.
        landscape: Find rates from 0 to `auxiliary` before the phase of each output, after the first epoch.
        stage_weights: Factors of the outputs' losses in the outputs' phases only: one per output in order, or
            by name; ``equal-norms``; or ``nyu``, 10 for surface normals and 1 for others (the NYUv2 code).
        penalty: lambda.
        nu_decay: Weight decay of nu.
        routed_share: Fraction of the epochs, from the first, that train gated weights. Later ones train raw
            weights, and nu stays as it is and serves the fusion.
        learn: What the fusion learns: ``scales`` of the importance nu; ``routes``, nu itself; or ``nothing``,
            for the arithmetic mean (DR-avgF).
        affine: How norm layers' weights and biases are fused: by learned ``scales`` or by their ``mean``.
        official_quirks: Do as the authors' code for NYUv2 does in two places that look like oversights.
        fusion_lr: Learning rate of the fusion's scales, by Adam, which start at 0.001: a step is a tenth of a
            scale. The published rate, 0.1, makes every scale about 0.1 at the first step, whichever way it
            should go.

    Raises:
        UserError: A value out of its range.
    """

    gate: str = "own"
    lateral: str = "paper"
    init: str = "kaiming"
    sign: str = "abs"
    pointwise: bool = False
    auxiliary: float = 0.4
    landscape: bool = False
    stage_weights: Factors | str | None = None
    penalty: float = 1e-4
    nu_decay: float = 0.0
    routed_share: float = 0.5
    learn: str = "scales"
    affine: str = "scales"
    official_quirks: bool = False
    fusion_lr: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, words in (
            ("gate", ("own", "mixed")),
            ("lateral", tuple(LATERAL)),
            ("init", INITS),
            ("sign", tuple(SIGNS)),
            ("learn", ("scales", "routes", "nothing")),
            ("affine", ("scales", "mean")),
        ):
            choice(self, name, words)
        for name in ("pointwise", "landscape", "official_quirks"):
            switch(self, name)
        for name in ("auxiliary", "penalty", "nu_decay"):
            number(self, name, "from 0 to 1e30", lambda value: 0 <= value <= 1e30)
        number(self, "routed_share", "from 0 to 1", lambda share: 0 <= share <= 1)
        if self.stage_weights not in (None, EQUAL, NYU):
            bounds = f"a number above 0 per output, in order or by name, or {EQUAL} or {NYU}"
            weights = check_factors(self, "stage_weights", bounds, lambda factors: min(factors) > 0)
            object.__setattr__(self, "stage_weights", weights)

    @property
    def in_turn(self) -> bool:  # noqa: D102
        return super().in_turn or self.gate == "mixed"

    @property
    def reads_epochs(self) -> tuple[str, ...]:  # noqa: D102
        share = f"routed_share={self.routed_share:g}"
        return super().reads_epochs + (share,) * (0 < self.routed_share < 1)

    @property
    def reads_data(self) -> tuple[str, ...]:  # noqa: D102
        return ("landscape=True: the losses decide which exits a stage runs",) * self.landscape

    @property
    def passes(self) -> Passes:  # noqa: D102
        if self.learn != "nothing":
            return super().passes
        return Passes(self.stage_runs, self.stage_runs) + Passes(self.fusion_fraction, 0)

    def gated_in(self, epoch: int, epochs: int) -> bool:  # noqa: D102
        return epoch < self.routed_share * epochs

    def ema_after(self, epoch: int, epochs: int) -> float:  # noqa: D102
        return 0.0 if self.gated_in(epoch, epochs) else self.ema

    def fusion_lr_at(self, progress: Progress, epochs: int) -> float:  # noqa: D102
        return progress.lr if self.learn == "routes" else super().fusion_lr_at(progress, epochs)

    def bind(self, context: LoopContext) -> BoundLoop:
        """Bind the loop to a net and the means to train it.

        Raises:
            UserError: The net or the objective does not fit the loop, or has other outputs than there are
                stage weights.
        """
        if not isinstance(self.stage_weights, str | None):
            factors_of(self.stage_weights, context.net.outputs, "stage_weights")
        owners = owners_of_state(context.net)
        importance = self._importance(context, owners)
        mean = self._mean(context.net, shared_parameters(context.net, owners), importance)
        return BoundStagedLoop(
            context,
            self,
            owners=owners,
            mean=mean,
            optimizer=self._optimizer(context, mean),
            factors=self.factors,
            importance=importance,
        )

    def factors(self, training: OutputTraining, output: int, progress: Progress) -> list[float]:
        """Factor of each loss in the phase of an output: by ramp, auxiliary rate and stage weight."""
        scales = self._scales(training, progress)
        rates = [self.auxiliary] * len(scales)
        if self.landscape and progress.epoch > 0:
            rates = landscape_rates(training, output, progress, cap=self.auxiliary, weights=scales)
        rates[output] = 1.0
        tau = training.taus(progress)[output]
        return [tau * rate * scale for rate, scale in zip(rates, scales, strict=True)]

    def _scales(self, training: OutputTraining, progress: Progress) -> Sequence[float]:
        """Stage weight of each output."""
        tasks, outputs = training.context.tasks, training.context.net.outputs
        if self.stage_weights is None:
            return [1.0] * len(tasks)
        if self.stage_weights == EQUAL:
            return equal_norms(training, progress)
        if self.stage_weights == NYU:
            return [10.0 if isinstance(task, Normals) else 1.0 for task in tasks]
        return factors_of(self.stage_weights, outputs, "stage_weights")  # type: ignore[arg-type]

    def _importance(self, context: LoopContext, owners: Mapping[str, tuple[int, ...]]) -> Importance:
        return Importance(
            context.net,
            owners,
            lateral=self.lateral,
            mixed=self.gate == "mixed",
            init=self.init,
            sign=self.sign,
            pointwise=self.pointwise,
            penalty=self.penalty,
            decay=self.nu_decay,
            seed=context.seed,
            quirks=self.official_quirks,
        )

    def _mean(
        self, net: nn.Module, shared: Mapping[str, tuple[int, ...]], importance: Importance
    ) -> LearnedMean:
        units = {}
        if self.learn != "nothing":
            units = scaled_units(net, shared, affine=self.affine == "scales")
        if self.learn == "routes":
            units = {name: unit for name, unit in units.items() if name not in importance.owners}
        initial = 1e-3 if self.learn == "scales" else 1.0
        return LearnedMean(
            shared,
            units,
            positive=SIGNS[self.sign][0],
            start=lambda output: initial,
            importance=None if self.learn == "nothing" else importance,
            learn_importance=self.learn == "routes",
            like=next(net.parameters()),
        )

    def _optimizer(self, context: LoopContext, mean: LearnedMean) -> _FabricOptimizer | None:
        if self.learn == "nothing":
            return None
        if self.learn == "scales":
            return adam(mean.variables.values(), self.fusion_lr, context.fabric)
        learned = list(mean.learned().values())
        return context.optimizer([{"params": learned, "weight_decay": self.nu_decay}]) if learned else None
